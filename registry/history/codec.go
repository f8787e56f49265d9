package history

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/forebay/forebay/registry"
	"github.com/forebay/forebay/registry/canonical"
)

// Format is the format version of the objects that this version writes.
const Format = 1

// ErrAltered says that an object is not what was appended: a byte of it has changed.
var ErrAltered = errors.New("altered since it was written")

// The fixed parts of an object: head, 64 hex digits, then tail and the revision.
const (
	objectStart = `{"format":1,`
	objectID    = `"id":"` + idPrefix
	objectIDEnd = `",`
	idPrefix    = "sha256:"
	idDigits    = 2 * sha256.Size
)

// encode writes a revision as an object, and returns its ID.
func encode(r *registry.Revision) (object []byte, id string, err error) {
	if r.Project == nil {
		return nil, "", errors.New("the revision has no project")
	}
	if r.Time.IsZero() {
		return nil, "", errors.New("the revision has no time")
	}
	normal := *r
	normal.Time = r.Time.UTC().Truncate(time.Microsecond)
	if normal.Generations == nil {
		normal.Generations = []registry.Generation{}
	}
	body, err := canonical.Marshal(&normal)
	if err != nil {
		return nil, "", err
	}
	rest := slices.Concat([]byte(`"revision":`), body, []byte("}"))
	id = identify(rest)
	object = slices.Concat([]byte(objectStart), []byte(`"id":"`+id+`",`), rest)
	return object, id, nil
}

// identify is the ID of the object that ends in rest, the part after the id member.
func identify(rest []byte) string {
	h := sha256.New()
	h.Write([]byte(objectStart))
	h.Write(rest)
	return idPrefix + hex.EncodeToString(h.Sum(nil))
}

// decode reads what encode wrote, after checking that it is unaltered.
func decode(object []byte) (*registry.Revision, error) {
	if !bytes.HasPrefix(object, []byte(objectStart)) {
		return nil, wrongFormat(object)
	}
	rest, ok := bytes.CutPrefix(object[len(objectStart):], []byte(objectID))
	if !ok || len(rest) < idDigits+len(objectIDEnd) || string(rest[idDigits:idDigits+len(objectIDEnd)]) != objectIDEnd {
		return nil, fmt.Errorf("%w: no id where one belongs", ErrAltered)
	}
	id := idPrefix + string(rest[:idDigits])
	rest = rest[idDigits+len(objectIDEnd):]
	if is := identify(rest); is != id {
		return nil, fmt.Errorf("%w: it says %s and its content is %s", ErrAltered, id, is)
	}
	var body struct {
		Revision *registry.Revision `json:"revision"`
	}
	dec := json.NewDecoder(bytes.NewReader(slices.Concat([]byte("{"), rest)))
	dec.DisallowUnknownFields() // a field this version does not know may change the meaning
	if err := dec.Decode(&body); err != nil {
		return nil, fmt.Errorf("%w; a newer version of forebay may have written it", err)
	}
	r := body.Revision
	if r == nil || r.Project == nil {
		return nil, errors.New("it holds no project")
	}
	r.ID = id
	return r, nil
}

func wrongFormat(object []byte) error {
	var head struct {
		Format int `json:"format"`
	}
	if err := json.Unmarshal(object, &head); err != nil || head.Format == 0 {
		return fmt.Errorf("%w: it is not a revision", ErrAltered)
	}
	if head.Format != Format {
		return fmt.Errorf("it is in format %d and this version of forebay reads format %d", head.Format, Format)
	}
	return fmt.Errorf("%w: it is not in canonical form", ErrAltered)
}

// objectName is where the revision of a number lies.
func objectName(number int) string {
	return fmt.Sprintf("%s%010d%s", objectFolder, number, objectSuffix)
}

const (
	objectFolder = "revisions/"
	objectSuffix = ".json"
)

// objectNumber is the number in an object's name; 0 if it is not that of a revision.
func objectNumber(name string) int {
	digits, ok := strings.CutPrefix(name, objectFolder)
	if digits, ok2 := strings.CutSuffix(digits, objectSuffix); ok && ok2 {
		if n, err := strconv.Atoi(digits); err == nil && n > 0 && objectName(n) == name {
			return n
		}
	}
	return 0
}
