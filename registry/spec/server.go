package spec

// Server is how an environment is served: its section server, as it is written. Numbers
// are texts too, for they may be references.
type Server struct {
	APIKeys       []string
	RateLimit     string // requests a second, of each key
	MaxConcurrent string // requests at a time
	Timeout       string // a duration
}

func (r environmentReader) server(o *object) {
	const in = "server."
	r.texts(o, in, "api_keys", &r.Server.APIKeys)
	r.number(o, in, "rate_limit", &r.Server.RateLimit)
	r.number(o, in, "max_concurrent", &r.Server.MaxConcurrent)
	r.text(o, in, "timeout", &r.Server.Timeout)
}

// number reads a whole number, or a text that refers to one.
func (r environmentReader) number(o *object, in, key string, to *string) {
	i, ok := o.get(key)
	if !ok {
		return
	}
	r.places[in+key] = i.at()
	if !i.scalar() {
		i.wrong("a whole number")
		return
	}
	*to = i.raw()
}
