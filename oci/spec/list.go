package spec

import (
	"errors"
	"slices"
	"strconv"
	"strings"
)

// maxListed bounds the numbers in a list of CPUs or nodes; Linux takes 8192 CPUs.
const maxListed = 8192

// ParseList reads the kernel's "List format" (cpuset(7)): 0-3,8. The result is sorted, each number once.
func ParseList(s string) ([]int, error) {
	var list []int
	for part := range strings.SplitSeq(strings.TrimSpace(s), ",") {
		if part = strings.TrimSpace(part); part == "" {
			if s == "" {
				return nil, nil
			}
			return nil, errors.New("a part is empty")
		}
		low, high, isRange := strings.Cut(part, "-")
		first, err := strconv.ParseUint(low, 10, 16)
		if err != nil {
			return nil, errors.New(strconv.Quote(part) + " isn't a number or a range")
		}
		last := first
		if isRange {
			if last, err = strconv.ParseUint(high, 10, 16); err != nil || last < first {
				return nil, errors.New(strconv.Quote(part) + " isn't a range")
			}
		}
		if last >= maxListed {
			return nil, errors.New(strconv.Quote(part) + " is past the last possible number")
		}
		for n := first; n <= last; n++ {
			list = append(list, int(n))
		}
		if len(list) > 4*maxListed {
			return nil, errors.New("it is too long")
		}
	}
	slices.Sort(list)
	return slices.Compact(list), nil
}

// FormatList writes numbers as ParseList reads them; the input is sorted.
func FormatList(list []int) string {
	var parts []string
	for i := 0; i < len(list); {
		j := i
		for j+1 < len(list) && list[j+1] == list[j]+1 {
			j++
		}
		part := strconv.Itoa(list[i])
		if j > i {
			part += "-" + strconv.Itoa(list[j])
		}
		parts = append(parts, part)
		i = j + 1
	}
	return strings.Join(parts, ",")
}
