package online

import "context"

// Server is implemented by stores that may lose the last of what they have acknowledged, when
// another server takes over or one comes back without it.
type Server interface {
	// Server names who takes the writes now: while the name stays the same nothing
	// that was acknowledged is lost. It is one round trip.
	Server(ctx context.Context) (string, error)
}

// ServerOf is the name that a store gives to who takes its writes; "" for one that does not
// lose what it has acknowledged.
func ServerOf(ctx context.Context, s Store) (string, error) {
	if s, ok := s.(Server); ok {
		return s.Server(ctx)
	}
	return "", nil
}
