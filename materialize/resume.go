package materialize

import (
	"fmt"
	"strconv"
	"strings"
)

// resumeName is the resume point of a Kafka partition.
func resumeName(topic string, partition int32) string {
	return topic + "/" + strconv.Itoa(int(partition))
}

// resumeTopicID is the resume point of the topic's ID.
func resumeTopicID(topic string) string { return topic + "/id" }

// marks are the names of a partition's two marks, after that of its resume point.
var marks = [2]string{"/a", "/b"}

// mark is how far a view was when it was noted, under which epoch, and by which server's
// leave. Whoever writes one writes it over the one of the two that it does not go on from, and then
// looks whether the server is still the same. So if it is another one by now, the newer mark may have
// been written to that one, without what it speaks of; but the older one cannot: it was there before, and so
// was all that it speaks of.
type mark struct {
	next, epoch int64
	server      string
}

func (m mark) String() string {
	server := m.server
	if server == "" {
		server = resumeNone
	}
	return fmt.Sprintf("%d %d %s", m.next, m.epoch, server)
}

func parseMark(text string) (m mark, err error) {
	fields := strings.Fields(text)
	if len(fields) != 3 {
		return m, fmt.Errorf("%q is no mark", text)
	}
	for i, to := range []*int64{&m.next, &m.epoch} {
		if *to, err = strconv.ParseInt(fields[i], 10, 64); err != nil || *to < 0 {
			return m, fmt.Errorf("%q is no mark", text)
		}
	}
	if fields[2] != resumeNone {
		m.server = fields[2]
	}
	return m, nil
}

// partitionResume is what the resume points say of one partition.
type partitionResume struct {
	next  int64 // the latest, for displays, and for views that have no marks yet
	known bool
	marks [2]*mark
}

// start is where a view of an epoch (0 for newest rows) goes on, now that server takes its
// writes, and which mark is the next to be written; false where that cannot be known.
func (r *partitionResume) start(epoch int64, server string) (next int64, slot int, ok bool) {
	if r == nil {
		return 0, 0, false
	}
	newest := -1
	for i, m := range r.marks {
		if m != nil && m.epoch == epoch && (newest < 0 || m.next > r.marks[newest].next || m.next == r.marks[newest].next && m.server == server) {
			newest = i
		}
	}
	switch {
	case newest < 0:
		return r.next, 0, epoch == 0 && r.known
	case r.marks[newest].server == server:
		return r.marks[newest].next, 1 - newest, true
	}
	if older := r.marks[1-newest]; older != nil && older.epoch == epoch {
		return older.next, newest, true
	}
	return 0, 0, false
}

// built is the offset that a build noted under an epoch.
func (r *partitionResume) built(epoch int64) (next int64, ok bool) {
	if m := r.marks[buildSlot]; m != nil && m.epoch == epoch {
		return m.next, true
	}
	return 0, false
}

// streamed reports whether a stream has noted an offset under an epoch, beside the one of the build.
func (r *partitionResume) streamed(epoch int64) bool {
	m := r.marks[1-buildSlot]
	return m != nil && m.epoch == epoch
}

// buildSlot is the mark that builds write.
const buildSlot = 0

// streamResumes are the positions in a topic's partitions among resume points.
func streamResumes(topic string, resumes map[string]string) (map[int32]*partitionResume, error) {
	all := map[int32]*partitionResume{}
	for name, position := range resumes {
		rest, ok := strings.CutPrefix(name, topic+"/")
		if !ok || name == resumeTopicID(topic) || position == resumeNone {
			continue
		}
		number, which, marked := strings.Cut(rest, "/")
		p, err := strconv.ParseInt(number, 10, 32)
		if err != nil {
			return nil, fmt.Errorf("resume point %q: no partition", name)
		}
		at := all[int32(p)]
		if at == nil {
			at = &partitionResume{}
			all[int32(p)] = at
		}
		switch {
		case !marked:
			if at.next, err = strconv.ParseInt(position, 10, 64); err != nil {
				return nil, fmt.Errorf("resume point %q: %q is not an offset", name, position)
			}
			at.known = true
		case which == marks[0][1:], which == marks[1][1:]:
			m, err := parseMark(position)
			if err != nil {
				return nil, fmt.Errorf("resume point %q: %w", name, err)
			}
			at.marks[which[0]-'a'] = &m
		}
	}
	return all, nil
}

// setMark adds to positions how far a view is in a partition: the resume point and one of its marks.
func setMark(positions map[string]string, topic string, partition int32, slot int, m mark) {
	name := resumeName(topic, partition)
	positions[name] = strconv.FormatInt(m.next, 10)
	positions[name+marks[slot]] = m.String()
}

// resumedEpoch is the epoch among resume points; 0 if there is none.
func resumedEpoch(resumes map[string]string) (int64, error) {
	text, ok := resumes[resumeEpoch]
	if !ok || text == resumeNone {
		return 0, nil
	}
	epoch, err := strconv.ParseInt(text, 10, 64)
	if err != nil || epoch <= 0 {
		return 0, fmt.Errorf("resume point %q: %q is no epoch", resumeEpoch, text)
	}
	return epoch, nil
}

// builtNow is the epoch that is being built according to resume points; 0 if none is.
func builtNow(resumes map[string]string) (int64, error) {
	text, ok := resumes[resumeBuilding]
	if !ok || text == resumeNone {
		return 0, nil
	}
	epoch, _, _ := strings.Cut(text, "/")
	n, err := strconv.ParseInt(epoch, 10, 64)
	if err != nil || n <= 0 {
		return 0, fmt.Errorf("resume point %q: %q is no epoch", resumeBuilding, text)
	}
	return n, nil
}
