// Package nearest finds the name that a misspelt one was meant to be.
package nearest

// Name is the first of names with the fewest bytes to insert, delete or replace
// in s, if at most that many are wrong; otherwise it is empty.
func Name(s string, names []string, most int) string {
	best, least := "", most+1
	for _, name := range names {
		if d := distance(s, name); d < least {
			best, least = name, d
		}
	}
	return best
}

// distance is the Levenshtein distance of a and b, in bytes. It keeps one row
// of the table.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, diagonal+1)
		}
	}
	return row[len(b)]
}
