// Package pitscript is the small language in which features are tested: events
// happen, time passes, and values are expected at an instant. A script says
// nothing about the engine that runs it; whatever implements [Engine] is held to the
// same values, so that training and serving are.
//
//	# A late event counts from when it arrives.
//	start 2024-03-01
//	load departures
//	  date,  ingested_at, origin, delay
//	  10:00,            , SFO,    12
//	  10:05, 10:40,       SFO,    30
//
//	at 10:30 expect airport_delays:count_1h origin=SFO = 1
//	at 10:45 expect airport_delays
//	  origin, count_1h, delay_mean_1h
//	  SFO,    2,        21.0
//	  JFK,    0 NOT_FOUND, NOT_FOUND
//
// A line is a statement; the indented lines below it are its table, whose first
// line names the columns. The grammar, where [x] may be left out, {x} is there any
// number of times, and | parts choices:
//
//	script    = { line }
//	line      = "" | "#" comment | statement [ "#" comment ]
//	statement = "start" instant
//	          | "load" source NEWLINE table
//	          | "push" source [ "fails" text ] NEWLINE table
//	          | "advance" duration
//	          | "at" instant [ "known_at" ( instant | "now" ) ] [ "as_of" instant ] [ expect ]
//	          | expect
//	          | "refused" source reason "=" count
//	expect    = "expect" target { name "=" value } ( "=" expected | "fails" text )
//	          | "expect" target { name "=" value } NEWLINE table
//	target    = "service" name | reference { "," reference }
//	instant   = RFC 3339 | date | clock time on the start's day | "+" duration or "-" duration from the start
//	duration  = number unit { number unit }             unit = w d h m s ms us
//	table     = INDENT cell { "," cell } NEWLINE { INDENT cell { "," cell } NEWLINE }
//	expected  = "*" | status | value [ "~" number [ "%" ] ] [ status ]
//	value     = "null" | "" | JSON | text
//
// [Compile] reads a script against a project's definitions and reports every mistake
// in it; [Program.Run] runs it on one engine. docs/testing.md explains the language.
package pitscript
