package spec

import "github.com/forebay/forebay/registry"

// check holds the definitions against each other, and makes the project of them.
func (l *loader) check() *registry.Project {
	p := &registry.Project{}
	for _, name := range sortedKeys(l.entities) {
		p.Entities = append(p.Entities, l.entities[name].Entity)
	}
	for _, name := range sortedKeys(l.sources) {
		p.Sources = append(p.Sources, l.sources[name].Source)
	}
	for _, name := range sortedKeys(l.views) {
		v := l.views[name]
		l.checkView(v)
		p.Views = append(p.Views, v.model())
	}
	for _, v := range l.nameless.views {
		l.checkView(v)
	}
	// An on-demand view reads what the checks of views find out, and a service
	// what those of on-demand views do.
	for _, name := range sortedKeys(l.onDemand) {
		v := l.onDemand[name]
		l.checkOnDemand(v)
		p.OnDemand = append(p.OnDemand, v.model())
	}
	for _, v := range l.nameless.onDemand {
		l.checkOnDemand(v)
	}
	l.checkCycles()
	for _, name := range sortedKeys(l.services) {
		s := l.services[name]
		l.checkService(s)
		p.Services = append(p.Services, s.model())
	}
	for _, s := range l.nameless.services {
		l.checkService(s)
	}
	return p
}
