package linux

import (
	"slices"
	"testing"
)

// A list that is kept is still the list that there is.
func TestKeptMountsAreCurrent(t *testing.T) {
	for range 3 {
		list, err := hostMounts()
		if err != nil {
			t.Fatal(err)
		}
		kept.Lock()
		kept.list = nil // as if never read
		kept.Unlock()
		again, err := hostMounts()
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(list, again) {
			t.Errorf("kept %v, read %v", list, again)
		}
	}
}
