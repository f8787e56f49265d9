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

// streamResumes are the next offsets of a topic's partitions among resume points.
func streamResumes(topic string, resumes map[string]string) (map[int32]int64, error) {
	next := map[int32]int64{}
	for name, position := range resumes {
		rest, ok := strings.CutPrefix(name, topic+"/")
		if !ok || name == resumeTopicID(topic) || strings.Contains(rest, "/") {
			continue
		}
		p, err := strconv.ParseInt(rest, 10, 32)
		if err != nil {
			return nil, fmt.Errorf("resume point %q: no partition", name)
		}
		offset, err := strconv.ParseInt(position, 10, 64)
		if err != nil {
			return nil, fmt.Errorf("resume point %q: %q is not an offset", name, position)
		}
		next[int32(p)] = offset
	}
	return next, nil
}
