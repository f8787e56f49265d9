package main

import "github.com/forebay/forebay/registry/feature"

// instant is a flag that is an instant, in microseconds; nil where it is not given.
type instant struct{ to **int64 }

// String implements pflag.Value.
func (i instant) String() string {
	if i.to == nil || *i.to == nil {
		return ""
	}
	return feature.FormatTimestamp(**i.to)
}

// Set implements pflag.Value.
func (i instant) Set(text string) error {
	t, err := feature.ParseTimestamp(text)
	if err == nil {
		*i.to = &t
	}
	return err
}

// Type implements pflag.Value: what the help calls it.
func (instant) Type() string { return "instant" }
