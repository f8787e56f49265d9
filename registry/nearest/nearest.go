// Package nearest finds the name that somebody probably meant, for "did you
// mean" hints.
package nearest

import "strings"

// Name finds the name in names that is closest to the mistyped one. It reports
// false if none is close: more than a third of the letters differ, but for case.
func Name(mistyped string, names []string) (string, bool) {
	best, found := len(mistyped)/3+1, ""
	for _, n := range names {
		if strings.EqualFold(n, mistyped) {
			return n, n != mistyped
		}
		if d := distance(mistyped, n, best); d < best {
			best, found = d, n
		}
	}
	return found, found != ""
}

// Hint is "did you mean "name"?", or "" if no name is close.
func Hint(mistyped string, names []string) string {
	if n, ok := Name(mistyped, names); ok {
		return `did you mean "` + n + `"?`
	}
	return ""
}

// distance is the number of letters to insert, delete, replace or swap with
// their neighbour to make b of a (optimal string alignment), or limit if it is
// as great as that.
func distance(a, b string, limit int) int {
	if len(a)-len(b) >= limit || len(b)-len(a) >= limit {
		return limit
	}
	before, above, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range above {
		above[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(above[j]+1, row[j-1]+1, above[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, above, row = above, row, before
	}
	return min(above[len(b)], limit)
}
