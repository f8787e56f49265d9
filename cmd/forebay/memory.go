package main

import (
	"fmt"
	"strconv"
	"strings"
)

// memory is a flag that is a number of bytes, such as 512MB or 2GiB; 0 where it is not given.
type memory struct{ to *int64 }

// sizeUnits are what a size may end in. Memory is counted in powers of two, whichever way it is written.
var sizeUnits = []struct {
	suffix string
	bytes  int64
}{{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"KB", 1 << 10}, {"MB", 1 << 20}, {"GB", 1 << 30}}

// String implements pflag.Value.
func (s memory) String() string {
	if s.to == nil || *s.to == 0 {
		return ""
	}
	return strconv.FormatInt(*s.to>>20, 10) + "MB"
}

// leastMemory is less than which no command takes: a page of every column has to fit.
const leastMemory = 16 << 20

// Set implements pflag.Value.
func (s memory) Set(text string) error {
	for _, u := range sizeUnits {
		number, ok := strings.CutSuffix(text, u.suffix)
		if !ok {
			continue
		}
		n, err := strconv.ParseFloat(number, 64)
		if err != nil || !(n > 0) || n*float64(u.bytes) > 1<<50 {
			break
		}
		if *s.to = int64(n * float64(u.bytes)); *s.to < leastMemory {
			return fmt.Errorf("%s is less than the least it takes, %dMB", text, leastMemory>>20)
		}
		return nil
	}
	return fmt.Errorf("%q is not a size: write 512MB or 2GB", text)
}

// Type implements pflag.Value: what the help calls it.
func (memory) Type() string { return "size" }
