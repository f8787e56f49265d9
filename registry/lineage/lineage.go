// Package lineage is the graph of what is made of what in a project:
//
//	Source ─┐
//	        ├─> FeatureView ──> OnDemandFeatureView ──> FeatureService
//	Entity ─┘        └───────────────────────────────────────┘
//
// An on-demand view may read on-demand views too. package plan asks it whom a
// change reaches, and `forebay registry show` prints it.
package lineage

import (
	"cmp"
	"slices"
	"strings"

	"github.com/forebay/forebay/registry"
)

// Kind is the kind of a definition, as YAML calls it.
type Kind string

// The kinds, in the order in which values flow.
const (
	Entity       Kind = "Entity"
	Source       Kind = "Source"
	View         Kind = "FeatureView"
	OnDemandView Kind = "OnDemandFeatureView"
	Service      Kind = "FeatureService"
)

// Kinds are all kinds, in the order in which values flow.
func Kinds() []Kind { return []Kind{Entity, Source, View, OnDemandView, Service} }

// ParseKind finds the kind that somebody means: as YAML calls it, in any case, its
// words parted by - or _ or not at all, the last one in the plural, or without
// "feature": views, on_demand_view, service.
func ParseKind(name string) (Kind, bool) {
	folded := strings.NewReplacer("-", "", "_", "").Replace(strings.ToLower(name))
	if singular, plural := strings.CutSuffix(folded, "ies"); plural {
		folded = singular + "y"
	}
	folded = strings.TrimSuffix(folded, "s")
	for _, k := range Kinds() {
		whole := strings.ToLower(string(k))
		if folded == whole || folded == strings.Replace(whole, "feature", "", 1) || (k == OnDemandView && folded == "ondemand") {
			return k, true
		}
	}
	return "", false
}

// Node is one definition.
type Node struct {
	Kind Kind   `json:"kind"`
	Name string `json:"name"`
}

func (n Node) String() string { return string(n.Kind) + " " + n.Name }

// Compare orders nodes by kind, as values flow, and then by name.
func Compare(a, b Node) int {
	return cmp.Or(cmp.Compare(slices.Index(Kinds(), a.Kind), slices.Index(Kinds(), b.Kind)), cmp.Compare(a.Name, b.Name))
}

// Graph is the lineage of a project. It is immutable, and safe for concurrent use.
type Graph struct {
	reads  map[Node][]Node // what a node is made of, directly
	readBy map[Node][]Node // what is made of it, directly
}

// New makes the graph of a project. A nil project has an empty one.
func New(p *registry.Project) *Graph {
	g := &Graph{reads: map[Node][]Node{}, readBy: map[Node][]Node{}}
	if p == nil {
		return g
	}
	for _, e := range p.Entities {
		g.add(Node{Entity, e.Name})
	}
	for _, s := range p.Sources {
		g.add(Node{Source, s.Name})
	}
	for _, v := range p.Views {
		g.add(Node{View, v.Name}, Node{Source, v.Source})
		for _, e := range v.Entities {
			g.add(Node{View, v.Name}, Node{Entity, e})
		}
	}
	for _, v := range p.OnDemand {
		g.add(Node{OnDemandView, v.Name})
		for _, in := range v.Inputs {
			g.add(Node{OnDemandView, v.Name}, viewNode(p, in))
		}
	}
	for _, s := range p.Services {
		g.add(Node{Service, s.Name})
		for _, f := range s.Features {
			g.add(Node{Service, s.Name}, viewNode(p, f.Ref.View))
		}
	}
	return g
}

// viewNode is the node of a view or an on-demand view, which share their names.
func viewNode(p *registry.Project, name string) Node {
	if p.OnDemandView(name) != nil {
		return Node{OnDemandView, name}
	}
	return Node{View, name}
}

func (g *Graph) add(n Node, reads ...Node) {
	if _, known := g.reads[n]; !known {
		g.reads[n] = nil // known, even if it reads nothing
	}
	for _, from := range reads {
		if !slices.Contains(g.reads[n], from) {
			g.reads[n] = append(g.reads[n], from)
			g.readBy[from] = append(g.readBy[from], n)
		}
	}
}

// Has reports whether the project has the definition.
func (g *Graph) Has(n Node) bool {
	_, ok := g.reads[n]
	return ok
}

// Reads are what a definition is made of directly, ordered by Compare.
func (g *Graph) Reads(n Node) []Node { return slices.SortedFunc(slices.Values(g.reads[n]), Compare) }

// ReadBy are what is made of a definition directly, ordered by Compare.
func (g *Graph) ReadBy(n Node) []Node { return slices.SortedFunc(slices.Values(g.readBy[n]), Compare) }

// Upstream is everything that a definition is made of, directly or not, ordered by Compare.
func (g *Graph) Upstream(n Node) []Node { return walk(g.reads, n) }

// Downstream is everything that is made of a definition, directly or not, ordered by Compare.
func (g *Graph) Downstream(n Node) []Node { return walk(g.readBy, n) }

// walk is what can be reached from a node, without the node itself.
func walk(edges map[Node][]Node, from Node) []Node {
	var found []Node
	seen := map[Node]bool{from: true}
	for todo := []Node{from}; len(todo) > 0; {
		n := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		for _, next := range edges[n] {
			if !seen[next] {
				seen[next] = true
				found = append(found, next)
				todo = append(todo, next)
			}
		}
	}
	slices.SortFunc(found, Compare)
	return found
}
