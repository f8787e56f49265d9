// Package kafka is Kafka for the stream of package materialize: members of
// consumer groups, the decoding of records (JSON, and Avro with a schema
// registry), dead-letter topics, and [Embedded], a Kafka in process for
// development.
//
// It persists records on dead-letter topics (docs/format/dead-letter.md): the
// key and the value of the refused record, untouched, and headers that say why.
package kafka
