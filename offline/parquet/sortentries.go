package parquet

import (
	"slices"

	"github.com/forebay/forebay/offline/pit"
)

// sortEntry is a row to be sorted: the first bytes of its key, which decide nearly always.
type sortEntry struct {
	prefix uint64
	row    uint32
}

func bucketOf(keys *pit.Keys, i, buckets int) int {
	return int(keys.Hash(i) % uint64(buckets))
}

// radixFrom is from how many entries on digits are counted instead of comparing.
const radixFrom = 256

// sortEntries sorts entries by prefix, and those of one prefix by tie. The result may lie in other memory.
func sortEntries(part []sortEntry, tie func(x, y uint32) int) []sortEntry {
	if len(part) < radixFrom {
		slices.SortFunc(part, func(x, y sortEntry) int {
			switch {
			case x.prefix < y.prefix:
				return -1
			case x.prefix > y.prefix:
				return 1
			}
			return tie(x.row, y.row)
		})
		return part
	}
	part = radix(part)
	for i := 0; i < len(part); {
		j := i + 1
		for j < len(part) && part[j].prefix == part[i].prefix {
			j++
		}
		switch {
		case j-i == 2:
			if tie(part[i].row, part[i+1].row) > 0 {
				part[i], part[i+1] = part[i+1], part[i]
			}
		case j-i > 2:
			slices.SortFunc(part[i:j], func(x, y sortEntry) int { return tie(x.row, y.row) })
		}
		i = j
	}
	return part
}

// radix sorts by prefix, keeping the order of equal ones, a byte at a time from the lowest
// (Knuth, TAOCP vol. 3, 5.2.5). Bytes that all prefixes share are passed over.
func radix(part []sortEntry) []sortEntry {
	var differ uint64
	for _, e := range part {
		differ |= e.prefix ^ part[0].prefix
	}
	other := make([]sortEntry, len(part))
	for shift := 0; shift < 64; shift += 8 {
		if differ>>shift&0xff == 0 {
			continue
		}
		var ends [256]int
		for _, e := range part {
			ends[e.prefix>>shift&0xff]++
		}
		sum := 0
		for d, n := range ends {
			ends[d] = sum
			sum += n
		}
		for _, e := range part {
			at := &ends[e.prefix>>shift&0xff]
			other[*at] = e
			*at++
		}
		part, other = other, part
	}
	return part
}
