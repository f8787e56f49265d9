package redis

import (
	"crypto/sha256"
	"encoding/base64"
	"slices"
	"strconv"
	"unsafe"

	"github.com/forebay/forebay/online"
	"github.com/forebay/forebay/registry/feature"
)

// alphabet is that of base64url, which no pattern or hash tag gives a meaning to.
const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"

const (
	tagLen = 3 // characters of a record's hash tag
	genLen = 6 // characters that name a generation in a record's key
)

// tagStart is where the hash tag starts in a record's key.
func (s *Store) tagStart() int { return len(s.o.Project) + 1 }

// appendRecordKey appends the key of a record; gen is generationID of its view and
// generation. The first brace of the key is that of the tag, and the tag has no brace, so
// that the bytes of an entity cannot make another tag of it.
func (s *Store) appendRecordKey(dst []byte, gen string, entity []byte) []byte {
	h := feature.HashKey(entity)
	dst = append(dst, s.o.Project...)
	dst = append(dst, '{', alphabet[h&63], alphabet[h>>6&63], alphabet[h>>12&63], '}')
	dst = append(dst, gen...)
	return append(dst, entity...)
}

// recordOf is the record that has a key; false if it is another, or of a generation of which this
// store has read and written nothing. The entity is that of key's memory.
func (s *Store) recordOf(key []byte) (online.Key, bool) {
	at := s.tagStart() + tagLen + 1
	if len(key) < at+genLen || string(key[:len(s.o.Project)]) != s.o.Project || key[at-1] != '}' {
		return online.Key{}, false
	}
	found, ok := s.named.Load(string(key[at : at+genLen]))
	if !ok {
		return online.Key{}, false
	}
	g := found.(generation) //nolint:forcetypeassert // generationID puts nothing else there
	return online.Key{View: g.view, Generation: g.number, Entity: key[at+genLen:]}, true
}

// recordPattern matches the keys of a generation's records, for SCAN. Neither a
// project nor gen has a character that means something in a pattern.
func (s *Store) recordPattern(gen string) string { return s.o.Project + "{???}" + gen + "*" }

// generationID is a short name of a view's generation: 36 bits of a hash. That two
// generations of a project do not share one is made sure before the first write (register).
func generationID(view string, generation int) string {
	sum := sha256.Sum256([]byte(generationName(view, generation)))
	return base64.RawURLEncoding.EncodeToString(sum[:5])[:genLen]
}

func generationName(view string, generation int) string {
	return view + "@" + strconv.Itoa(generation)
}

// liveKey is a hash: view -> live generation.
func (s *Store) liveKey() string { return s.o.Project + "{forebay}live" }

// generationsKey is a hash: generationID -> generationName, and "format" -> the version of all this.
func (s *Store) generationsKey() string { return s.o.Project + "{forebay}generations" }

// resumesKey is a hash: input -> position.
func (s *Store) resumesKey(view string, generation int) string {
	return s.o.Project + "{forebay}resumes:" + generationName(view, generation)
}

// slot is the slot of the Cluster that a record's key is in: CRC-16 (XMODEM) of
// its tag, as in https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/
func slot(tag string) uint16 {
	crc := uint16(0)
	for i := range len(tag) {
		crc ^= uint16(tag[i]) << 8
		for range 8 {
			if crc&0x8000 != 0 {
				crc = crc<<1 ^ 0x1021
			} else {
				crc <<= 1
			}
		}
	}
	return crc % 16384
}

// keyring makes the keys of many records in one piece of memory.
type keyring struct {
	s     *Store
	buf   []byte
	ends  []int
	names []string
	ids   []generation // the few generations of one batch
}

type generation struct {
	view   string
	number int
	id     string
}

// borrow gives an empty keyring, and giveBack takes it back: then nobody uses its keys any more.
func (s *Store) borrow() *keyring {
	if r, ok := s.rings.Get().(*keyring); ok {
		return r
	}
	return &keyring{s: s}
}

// maxGenerations is how many generations a keyring remembers.
const maxGenerations = 64

func (s *Store) giveBack(r *keyring) {
	if cap(r.buf) > maxKept || len(r.ids) > maxGenerations {
		return
	}
	r.buf, r.ends = r.buf[:0], r.ends[:0]
	clear(r.names)
	s.rings.Put(r)
}

func (r *keyring) id(view string, number int) string {
	for i := range r.ids {
		if g := &r.ids[i]; g.number == number && g.view == view {
			return g.id
		}
	}
	r.ids = append(r.ids, generation{view, number, r.s.generationID(view, number)})
	return r.ids[len(r.ids)-1].id
}

func (r *keyring) add(k *online.Key) {
	r.buf = r.s.appendRecordKey(r.buf, r.id(k.View, k.Generation), k.Entity)
	r.ends = append(r.ends, len(r.buf))
}

// keys are the keys that were added. They are of the keyring's memory.
func (r *keyring) keys() []string {
	all, start := unsafe.String(unsafe.SliceData(r.buf), len(r.buf)), 0
	r.names = slices.Grow(r.names[:0], len(r.ends))
	for _, end := range r.ends {
		r.names, start = append(r.names, all[start:end]), end
	}
	return r.names
}
