package registry

import "strings"

// Suggest finds the known name that was probably meant by one that does not
// exist: the nearest by edit distance (insertions, deletions, substitutions and
// swaps of neighbours, ignoring case), if at most a third of the letters
// differ. "" if none is near. Of several equally near ones it is the first.
func Suggest(name string, known []string) string {
	best, most := "", max(1, len(name)/3)
	for _, k := range known {
		if k == name {
			continue
		}
		if d := editDistance(strings.ToLower(name), strings.ToLower(k)); d <= most {
			best, most = k, d-1
		}
	}
	return best
}

// DidYouMean is the end of a sentence about a name that does not exist: a
// suggestion, or "" where no known name is near.
func DidYouMean(name string, known []string) string {
	if s := Suggest(name, known); s != "" {
		return "; did you mean " + s + "?"
	}
	return ""
}

// editDistance is the optimal string alignment distance, byte by byte.
func editDistance(a, b string) int {
	before, prev, cur := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range prev {
		prev[j] = j
	}
	for i := 1; i <= len(a); i++ {
		cur[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			cur[j] = min(prev[j]+1, cur[j-1]+1, prev[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				cur[j] = min(cur[j], before[j-2]+1)
			}
		}
		before, prev, cur = prev, cur, before
	}
	return prev[len(b)]
}
