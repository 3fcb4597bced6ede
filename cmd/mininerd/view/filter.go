package view

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
)

// Filters are docker's --filter KEY=VALUE, by key. Of the values of one key any may match; all keys must.
type Filters map[string][]string

// ParseFilters reads --filter; keys that the listing does not know are refused.
func ParseFilters(list []string, known ...string) (Filters, error) {
	f := Filters{}
	for _, text := range list {
		key, value, ok := strings.Cut(text, "=")
		key = strings.ToLower(strings.TrimSpace(key))
		if !ok {
			return nil, fmt.Errorf("invalid argument %q for --filter: bad format of filter (expected name=value): %w", text, errdefs.ErrInvalidArgument)
		}
		if !slices.Contains(known, key) {
			return nil, fmt.Errorf("invalid filter '%s': use one of %s: %w", key, strings.Join(known, ", "), errdefs.ErrInvalidArgument)
		}
		f[key] = append(f[key], strings.TrimSpace(value))
	}
	return f, nil
}

// any says whether one of a key's values matches, or there is none.
func (f Filters) any(key string, match func(value string) bool) bool {
	values := f[key]
	return len(values) == 0 || slices.ContainsFunc(values, match)
}

// labels says whether all the label filters hold: KEY, or KEY=VALUE.
func (f Filters) labels(labels map[string]string) bool {
	for _, want := range f["label"] {
		key, value, valued := strings.Cut(want, "=")
		got, ok := labels[key]
		if !ok || valued && got != value {
			return false
		}
	}
	for _, no := range f["label!"] {
		key, value, valued := strings.Cut(no, "=")
		if got, ok := labels[key]; ok && (!valued || got == value) {
			return false
		}
	}
	return true
}

// flag is the value of a filter that is true or false; unset is neither.
func (f Filters) flag(key string) (value, set bool, err error) {
	values := f[key]
	if len(values) == 0 {
		return false, false, nil
	}
	value, err = strconv.ParseBool(values[len(values)-1])
	if err != nil {
		return false, true, fmt.Errorf("invalid filter '%s=%s': true or false: %w", key, values[len(values)-1], errdefs.ErrInvalidArgument)
	}
	return value, true, nil
}
