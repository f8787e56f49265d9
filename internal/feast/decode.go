package feast

import (
	"errors"
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"
)

// ErrRegistry means: the file is not the registry of a Feast repository.
var ErrRegistry = errors.New("not a registry of Feast")

// value is one field of a message: a number, or bytes (text, a message).
type value struct {
	number uint64
	bytes  []byte
}

func (v value) text() string { return string(v.bytes) }

// each calls set for every field of a message, in the order of the bytes.
func each(message []byte, set func(field protowire.Number, v value) error) error {
	for len(message) > 0 {
		field, kind, n := protowire.ConsumeTag(message)
		if n < 0 {
			return fmt.Errorf("%w: %w", ErrRegistry, protowire.ParseError(n))
		}
		message = message[n:]
		var v value
		switch kind {
		case protowire.VarintType:
			v.number, n = protowire.ConsumeVarint(message)
		case protowire.BytesType:
			v.bytes, n = protowire.ConsumeBytes(message)
		default:
			n = protowire.ConsumeFieldValue(field, kind, message)
		}
		if n < 0 {
			return fmt.Errorf("%w: field %d: %w", ErrRegistry, field, protowire.ParseError(n))
		}
		message = message[n:]
		if err := set(field, v); err != nil {
			return err
		}
	}
	return nil
}

// project is what a registry declares for one project, in Feast's words.
type project struct {
	entities []entity
	views    []view
	onDemand []onDemand
	services []service
	labels   []string          // names of label views
	sources  map[string]source // by name
}

type meta struct {
	name, project, description, owner string
	tags                              map[string]string
}

type entity struct {
	meta
	valueType uint64
	joinKey   string
}

type field struct {
	name, description string
	valueType         uint64
	vector            bool
	metric            string // of vector search, "" for none
	length            uint64
}

type view struct {
	meta
	entities     []string
	features     []field
	keys         []field // entity_columns
	ttl          int64   // seconds; 0 for none
	batch        *source
	stream       *source
	online       bool
	disabled     bool
	transformed  string // the Python of a transformation, "" for none
	aggregations []aggregation
}

type aggregation struct {
	column, function, name string
	window, slide          int64 // seconds; 0 for none
}

type onDemand struct {
	meta
	features []field
	sources  []string // names of views
	request  []field
	python   string
}

type service struct {
	meta
	features []projection
}

type projection struct {
	view, alias string
	features    []field
	keys        map[string]string
}

// Kinds of a data source, as DataSource.type numbers them.
const (
	fileSource    = 1
	kafkaSource   = 3
	requestSource = 7
	pushSource    = 9
)

var sourceKinds = map[uint64]string{2: "BigQuery", 4: "Kinesis", 5: "Redshift", 6: "a custom source", 8: "Snowflake", 10: "Trino", 11: "Spark", 12: "Athena"}

type source struct {
	meta
	kind      uint64
	mapping   map[string]string // outside name -> feature's
	timestamp string
	created   string
	uri       string // of files
	delta     bool
	table     string // of a warehouse
	servers   string // of Kafka
	topic     string
	watermark int64  // seconds by which events may be late; 0 for none
	format    uint64 // field number in StreamFormat: 1 Avro, 2 Protobuf, 3 JSON
	schema    []field
	batch     *source
}

// decode reads a registry: the projects in it by name.
func decode(registry []byte) (map[string]*project, error) {
	projects := map[string]*project{}
	of := func(m meta) *project {
		p := projects[m.project]
		if p == nil {
			p = &project{sources: map[string]source{}}
			projects[m.project] = p
		}
		return p
	}
	err := each(registry, func(n protowire.Number, v value) error {
		switch n {
		case 1, 6, 7, 8, 14, 19:
			return each(v.bytes, func(part protowire.Number, spec value) error {
				if part != 1 {
					return nil
				}
				return decodeSpec(n, spec.bytes, of)
			})
		case 12:
			s, err := decodeSource(v.bytes)
			if err == nil {
				of(s.meta).sources[s.name] = s
			}
			return err
		}
		return nil
	})
	return projects, err
}

func decodeSpec(n protowire.Number, spec []byte, of func(meta) *project) error {
	switch n {
	case 1:
		e, err := decodeEntity(spec)
		of(e.meta).entities = append(of(e.meta).entities, e)
		return err
	case 6, 14:
		v, err := decodeView(spec, n == 14)
		of(v.meta).views = append(of(v.meta).views, v)
		return err
	case 8:
		o, err := decodeOnDemand(spec)
		of(o.meta).onDemand = append(of(o.meta).onDemand, o)
		return err
	case 7:
		s, err := decodeService(spec)
		of(s.meta).services = append(of(s.meta).services, s)
		return err
	}
	var m meta
	err := each(spec, func(n protowire.Number, v value) error {
		m.set(n, v, metaFields{name: 1, project: 2})
		return nil
	})
	of(m).labels = append(of(m).labels, m.name)
	return err
}

// metaFields are the field numbers of what every definition has.
type metaFields struct{ name, project, description, owner, tags protowire.Number }

func (m *meta) set(n protowire.Number, v value, at metaFields) {
	switch n {
	case at.name:
		m.name = v.text()
	case at.project:
		m.project = v.text()
	case at.description:
		m.description = v.text()
	case at.owner:
		m.owner = v.text()
	case at.tags:
		setPair(&m.tags, v)
	}
}

// setPair puts an entry of a map of texts into it; one that does not parse is passed over.
func setPair(to *map[string]string, v value) {
	var key, val string
	if each(v.bytes, func(n protowire.Number, v value) error {
		switch n {
		case 1:
			key = v.text()
		case 2:
			val = v.text()
		}
		return nil
	}) == nil {
		if *to == nil {
			*to = map[string]string{}
		}
		(*to)[key] = val
	}
}

func decodeEntity(b []byte) (e entity, err error) {
	err = each(b, func(n protowire.Number, v value) error {
		e.set(n, v, metaFields{name: 1, project: 9, description: 3, owner: 10, tags: 8})
		switch n {
		case 2:
			e.valueType = v.number
		case 4:
			e.joinKey = v.text()
		}
		return nil
	})
	return e, err
}

func decodeField(b []byte) (f field, err error) {
	err = each(b, func(n protowire.Number, v value) error {
		switch n {
		case 1:
			f.name = v.text()
		case 2:
			f.valueType = v.number
		case 4:
			f.description = v.text()
		case 5:
			f.vector = v.number != 0
		case 6:
			f.metric = v.text()
		case 7:
			f.length = v.number
		}
		return nil
	})
	return f, err
}

func addField(to *[]field, v value) error {
	f, err := decodeField(v.bytes)
	*to = append(*to, f)
	return err
}

// seconds reads a google.protobuf.Duration; parts of a second are dropped.
func seconds(v value) (s int64) {
	_ = each(v.bytes, func(n protowire.Number, v value) error { // what does not parse is 0: none
		if n == 1 {
			s = int64(v.number) //nolint:gosec // the bits of an int64
		}
		return nil
	})
	return s
}

// decodeView reads a FeatureViewSpec or a StreamFeatureViewSpec, which number their fields in different ways.
func decodeView(b []byte, stream bool) (w view, err error) {
	at := metaFields{name: 1, project: 2, description: 10, owner: 11, tags: 5}
	names := map[protowire.Number]string{3: "entities", 4: "features", 6: "ttl", 7: "batch", 8: "online", 9: "stream", 12: "keys", 15: "transformation", 20: "disabled"}
	if stream {
		at = metaFields{name: 1, project: 2, description: 6, owner: 8, tags: 7}
		names = map[protowire.Number]string{3: "entities", 4: "features", 9: "ttl", 10: "batch", 12: "online", 11: "stream", 5: "keys", 13: "function", 15: "aggregations", 17: "transformation", 23: "disabled"}
	}
	err = each(b, func(n protowire.Number, v value) (err error) {
		w.set(n, v, at)
		switch names[n] {
		case "entities":
			w.entities = append(w.entities, v.text())
		case "features":
			return addField(&w.features, v)
		case "keys":
			return addField(&w.keys, v)
		case "ttl":
			w.ttl = seconds(v)
		case "batch":
			w.batch, err = decodeSourceRef(v)
		case "stream":
			w.stream, err = decodeSourceRef(v)
		case "online":
			w.online = v.number != 0
		case "disabled":
			w.disabled = v.number != 0
		case "transformation":
			w.transformed = transformation(v)
		case "function":
			w.transformed = function(v)
		case "aggregations":
			a, err := decodeAggregation(v.bytes)
			w.aggregations = append(w.aggregations, a)
			return err
		}
		return err
	})
	return w, err
}

// transformation is the text of a FeatureTransformationV2.
func transformation(v value) (text string) {
	_ = each(v.bytes, func(n protowire.Number, v value) error { // it is shown to a person
		if n == 1 {
			text = function(v)
		} else if text == "" {
			text = "(a Substrait plan)"
		}
		return nil
	})
	return text
}

// function is the text of a UserDefinedFunction.
func function(v value) (text string) {
	_ = each(v.bytes, func(n protowire.Number, v value) error { // it is shown to a person
		if n == 3 {
			text = v.text()
		}
		return nil
	})
	return text
}

func decodeAggregation(b []byte) (a aggregation, err error) {
	err = each(b, func(n protowire.Number, v value) error {
		switch n {
		case 1:
			a.column = v.text()
		case 2:
			a.function = v.text()
		case 3:
			a.window = seconds(v)
		case 4:
			a.slide = seconds(v)
		case 5:
			a.name = v.text()
		}
		return nil
	})
	return a, err
}

func decodeOnDemand(b []byte) (o onDemand, err error) {
	err = each(b, func(n protowire.Number, v value) error {
		o.set(n, v, metaFields{name: 1, project: 2, description: 6, owner: 8, tags: 7})
		switch n {
		case 3:
			return addField(&o.features, v)
		case 4:
			return each(v.bytes, func(n protowire.Number, v value) error { // an entry of the map
				if n != 2 {
					return nil
				}
				return o.source(v)
			})
		case 5:
			o.python = function(v)
		case 10:
			o.python = transformation(v)
		}
		return nil
	})
	return o, err
}

// source reads an OnDemandSource: a view, a projection of one, or request fields.
func (o *onDemand) source(v value) error {
	return each(v.bytes, func(n protowire.Number, v value) error {
		switch n {
		case 1:
			return each(v.bytes, func(n protowire.Number, v value) error {
				if n != 1 {
					return nil
				}
				w, err := decodeView(v.bytes, false)
				o.sources = append(o.sources, w.name)
				return err
			})
		case 2:
			s, err := decodeSource(v.bytes)
			o.request = append(o.request, s.schema...)
			return err
		case 3:
			p, err := decodeProjection(v.bytes)
			o.sources = append(o.sources, p.view)
			return err
		}
		return nil
	})
}

func decodeService(b []byte) (s service, err error) {
	err = each(b, func(n protowire.Number, v value) error {
		s.set(n, v, metaFields{name: 1, project: 2, description: 5, owner: 6, tags: 4})
		if n == 3 {
			p, err := decodeProjection(v.bytes)
			s.features = append(s.features, p)
			return err
		}
		return nil
	})
	return s, err
}

func decodeProjection(b []byte) (p projection, err error) {
	err = each(b, func(n protowire.Number, v value) error {
		switch n {
		case 1:
			p.view = v.text()
		case 2:
			return addField(&p.features, v)
		case 3:
			p.alias = v.text()
		case 4:
			setPair(&p.keys, v)
		}
		return nil
	})
	return p, err
}

func decodeSourceRef(v value) (*source, error) {
	s, err := decodeSource(v.bytes)
	return &s, err
}

func decodeSource(b []byte) (s source, err error) {
	err = each(b, func(n protowire.Number, v value) (err error) {
		s.set(n, v, metaFields{name: 20, project: 21, description: 23, owner: 25, tags: 24})
		switch n {
		case 1:
			s.kind = v.number
		case 2:
			setPair(&s.mapping, v)
		case 3:
			s.timestamp = v.text()
		case 5:
			s.created = v.text()
		case 26:
			s.batch, err = decodeSourceRef(v)
		case 11:
			return each(v.bytes, func(n protowire.Number, v value) error {
				switch n {
				case 1:
					return each(v.bytes, func(n protowire.Number, _ value) error {
						s.delta = s.delta || n == 2
						return nil
					})
				case 2:
					s.uri = v.text()
				}
				return nil
			})
		case 13:
			return each(v.bytes, func(n protowire.Number, v value) error {
				switch n {
				case 1:
					s.servers = v.text()
				case 2:
					s.topic = v.text()
				case 3:
					return each(v.bytes, func(n protowire.Number, _ value) error {
						s.format = uint64(n) //nolint:gosec // a field number
						return nil
					})
				case 4:
					s.watermark = seconds(v)
				}
				return nil
			})
		case 18:
			return each(v.bytes, func(n protowire.Number, v value) error {
				if n == 3 {
					return addField(&s.schema, v)
				}
				return nil
			})
		case 12, 15, 19, 27, 30, 35: // warehouses: a table or a query
			return each(v.bytes, func(n protowire.Number, v value) error {
				if (n == 1 || n == 2 || n == 3 && s.kind == 11) && s.table == "" {
					s.table = v.text()
				}
				return nil
			})
		}
		return err
	})
	return s, err
}
