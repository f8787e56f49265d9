package online

// Slab is memory for the records of one Get for which the caller has brought none. Stores copy into it.
type Slab struct {
	// Left is how many records may still come: so many more are made room for.
	Left  int
	bytes []byte
}

// slabBytes bounds the memory that is made for records of which nobody knows yet how long they are.
const slabBytes = 1 << 20

// Copy sets a record to a copy of b, in the memory that it has if that is enough.
func (s *Slab) Copy(dst *[]byte, b []byte) {
	s.Left--
	if cap(*dst) >= len(b) && *dst != nil {
		*dst = append((*dst)[:0], b...)
		return
	}
	size := len(b) + len(b)/8 // the next one may be longer
	if cap(s.bytes)-len(s.bytes) < size || s.bytes == nil {
		s.bytes = make([]byte, 0, max(size, min((size+8)*(max(s.Left, 0)+1), slabBytes)))
	}
	at := len(s.bytes)
	s.bytes = s.bytes[:at+size]
	*dst = append(s.bytes[at:at:at+size], b...)
}

// None sets a record to nil: there is none.
func (s *Slab) None(dst *[]byte) {
	s.Left--
	*dst = nil
}

// set is Copy of a record, or None where it is nil.
func (s *Slab) set(dst *[]byte, record []byte) {
	if record == nil {
		s.None(dst)
	} else {
		s.Copy(dst, record)
	}
}
