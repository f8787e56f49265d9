package main

import (
	"fmt"
	"strings"
	"sync"
	"time"
)

// progress tells a person how far a step is: a line on stderr that is drawn
// over on a terminal, else a plain line from time to time. Its methods may be
// called from any goroutine.
type progress struct {
	c     *cli
	label string
	unit  string // of what is counted: "rows"
	live  bool
	start time.Time

	mu          sync.Mutex
	done, total int64
	next        time.Time // of drawing
	drawn       bool
	stopped     bool
}

const (
	drawEvery = 100 * time.Millisecond // on a terminal
	lineEvery = 5 * time.Second        // elsewhere
)

// startProgress starts the progress of a step. End it with stop.
func (c *cli) startProgress(label, unit string) *progress {
	now := time.Now()
	p := &progress{c: c, label: label, unit: unit, live: terminal(c.stderr) && c.env("TERM") != "dumb", start: now}
	p.next = now.Add(lineEvery)
	if p.live {
		p.next = now.Add(drawEvery)
	}
	return p
}

// set says how much is done; total is 0 while it is not known.
func (p *progress) set(done, total int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.done, p.total = done, total
	now := time.Now()
	if p.stopped || now.Before(p.next) {
		return
	}
	text := p.text(now)
	if p.live {
		fmt.Fprintf(p.c.stderr, "\r\x1b[2K%s", text)
		p.drawn, p.next = true, now.Add(drawEvery)
		return
	}
	fmt.Fprintln(p.c.stderr, text)
	p.next = now.Add(lineEvery)
}

// stop wipes the line; what comes next starts at the left. It may be called twice.
func (p *progress) stop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stopped = true
	if p.drawn {
		fmt.Fprint(p.c.stderr, "\r\x1b[2K")
		p.drawn = false
	}
}

// elapsed is the time since the start.
func (p *progress) elapsed() time.Duration { return time.Since(p.start) }

func (p *progress) text(now time.Time) string {
	d := now.Sub(p.start)
	speed := rate(p.done, d)
	if p.total <= 0 || p.done <= 0 {
		return fmt.Sprintf("%s  %s %s  %s", p.label, count(p.done), p.unit, speed)
	}
	part := min(1, float64(p.done)/float64(p.total))
	left := time.Duration(float64(d) * (1 - part) / part)
	bar := ""
	if p.live {
		const width = 24
		full := int(part * width)
		bar = "[" + strings.Repeat("=", full) + strings.Repeat(" ", width-full) + "] "
	}
	return fmt.Sprintf("%s  %s%3.0f%%  %s of %s %s  %s  %s left", p.label, bar, part*100, count(p.done), count(p.total), p.unit, speed, span(left))
}
