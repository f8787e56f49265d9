package window

import "unsafe"

// Memory is about the bytes that a state takes in memory; encoded is the length of its encoding.
func (p *Plan) Memory(s *State, encoded int) int64 {
	perTile := int64(unsafe.Sizeof(tile{})) + int64(len(p.groups))*int64(unsafe.Sizeof(acc{}))
	n := int64(unsafe.Sizeof(State{})) + int64(len(s.levels))*int64(unsafe.Sizeof([]tile(nil)))
	for _, tiles := range s.levels {
		n += int64(cap(tiles)-len(tiles))*int64(unsafe.Sizeof(tile{})) + int64(len(tiles))*perTile
	}
	// Sums, lists, sets and sketches: more than what they are encoded as, each with a header of its own.
	return n + 3*int64(encoded)
}
