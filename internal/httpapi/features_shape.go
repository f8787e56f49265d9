package httpapi

import (
	"sync"

	"github.com/forebay/forebay/internal/api"
	"github.com/forebay/forebay/registry/feature"
)

// answerShape is what all answers of a plan have in common, as they are written.
type answerShape struct {
	plan Plan
	// As JSON: `{"revision":"…","instant":"`, and `","features":[…],"rows":[`.
	json, jsonFeatures []byte
	// As MessagePack: the revision and the name of the instant, and the features and the name of the rows.
	packed, packedFeatures []byte

	mu      sync.Mutex
	schemas [4]*arrowSchema // by what is left out
}

func newAnswerShape(plan Plan) *answerShape {
	s := &answerShape{plan: plan}
	s.json = feature.AppendStringJSON([]byte(`{"`+api.FieldRevision+`":`), plan.Revision())
	s.json = append(s.json, `,"`+api.FieldInstant+`":"`...)
	s.packed = packText(packText(nil, api.FieldRevision), plan.Revision())
	s.packed = packText(s.packed, api.FieldInstant)
	outputs := plan.Selection().Outputs
	s.jsonFeatures = append(s.jsonFeatures, `","`+api.FieldFeatures+`":[`...)
	s.packedFeatures = packArray(packText(nil, api.FieldFeatures), len(outputs))
	for j := range outputs {
		if j > 0 {
			s.jsonFeatures = append(s.jsonFeatures, ',')
		}
		s.jsonFeatures = feature.AppendStringJSON(s.jsonFeatures, outputs[j].Name)
		s.packedFeatures = packText(s.packedFeatures, outputs[j].Name)
	}
	s.jsonFeatures = append(s.jsonFeatures, `],"`+api.FieldRows+`":[`...)
	s.packedFeatures = packText(s.packedFeatures, api.FieldRows)
	return s
}

// arrow is the schema of the answers to requests like r.
func (s *answerShape) arrow(r *featuresRequest) (*arrowSchema, error) {
	at := 0
	if r.omitStatuses {
		at++
	}
	if r.omitTimestamps {
		at += 2
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.schemas[at] == nil {
		schema, err := newArrowSchema(s.plan, r.omitStatuses, r.omitTimestamps)
		if err != nil {
			return nil, err
		}
		s.schemas[at] = schema
	}
	return s.schemas[at], nil
}

// answerShapes are those of the plans asked for of late. It is safe for concurrent use; the zero one is empty.
type answerShapes struct {
	mu sync.RWMutex
	of map[Plan]*answerShape
}

// maxShapes bounds how many are kept, and the plans with them.
const maxShapes = 256

func (a *answerShapes) get(plan Plan) *answerShape {
	a.mu.RLock()
	s := a.of[plan]
	a.mu.RUnlock()
	if s != nil {
		return s
	}
	s = newAnswerShape(plan)
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.of) >= maxShapes || a.of == nil {
		a.of = map[Plan]*answerShape{}
	}
	a.of[plan] = s
	return s
}
