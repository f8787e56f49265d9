package feature

import "cmp"

// Version orders the rows of one entity key. Of two rows the newer is the one
// with the greater (EventTime, IngestedAt, Major, Minor), compared in that
// order. It is total: no two rows of one source have the same.
//
// The last two are the row's sequence. From Kafka: its partition and offset.
// From a file or a push: its position in the file, and the instant at which
// that file was taken in, which no other file of the source shares.
type Version struct {
	EventTime  int64 // microseconds since the Unix epoch: when it was true
	IngestedAt int64 // microseconds since the Unix epoch: when Forebay learned it
	Major      int64
	Minor      int64
}

// Compare is negative if v is older than w, positive if it is newer.
func (v Version) Compare(w Version) int {
	if c := cmp.Compare(v.EventTime, w.EventTime); c != 0 {
		return c
	}
	if c := cmp.Compare(v.IngestedAt, w.IngestedAt); c != 0 {
		return c
	}
	if c := cmp.Compare(v.Major, w.Major); c != 0 {
		return c
	}
	return cmp.Compare(v.Minor, w.Minor)
}

// Status says why a feature has the value it has, online and offline alike.
type Status uint8

// The statuses. The numbers are those of Feast's FieldStatus where it has one.
const (
	StatusInvalid  Status = 0 // could not be computed: null
	Present        Status = 1
	NullValue      Status = 2 // the row is there, its value is null
	NotFound       Status = 3 // no row
	OutsideMaxAge  Status = 4 // the newest row is older than the ttl: null
	statusNamesEnd        = 5
)

var statusNames = [statusNamesEnd]string{"INVALID", "PRESENT", "NULL_VALUE", "NOT_FOUND", "OUTSIDE_MAX_AGE"}

func (s Status) String() string {
	if s < statusNamesEnd {
		return statusNames[s]
	}
	return "UNKNOWN"
}

// MarshalText writes the status's name.
func (s Status) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// ParseStatus reads a status's name.
func ParseStatus(name string) (Status, bool) {
	for i, n := range statusNames {
		if n == name {
			return Status(i), true
		}
	}
	return 0, false
}

// StatusOf is the status of a value that was found in a row young enough.
func StatusOf(v Value) Status {
	switch {
	case v.IsInvalid():
		return StatusInvalid
	case v.IsNull():
		return NullValue
	}
	return Present
}
