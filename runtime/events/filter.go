package events

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
)

// Filter selects things by their keys: events, and records in lists. The zero Filter selects everything.
//
// An expression is KEY==VALUE (also KEY=VALUE), KEY!=VALUE, KEY~=REGEX (RE2, anywhere in the value), or KEY alone: the
// thing has it. A value may be quoted as in Go; so may what follows "labels.". Several expressions of one key: one of
// its == and ~= must match, and every !=. All keys must match.
type Filter struct{ terms []term }

type term struct {
	key      string
	operator operator
	value    string
	regex    *regexp.Regexp
}

type operator string

const (
	present  operator = ""
	equal    operator = "=="
	notEqual operator = "!="
	matches  operator = "~="
)

// ParseFilterOf reads expressions whose keys are among known; a known key that ends in a dot stands for all that begin
// with it, as labels. does.
func ParseFilterOf(expressions []string, known ...string) (Filter, error) {
	var f Filter
	for _, x := range expressions {
		t, err := parseTerm(x)
		if err != nil {
			return Filter{}, fmt.Errorf("filter %q: %s: %w", x, err, errdefs.ErrInvalidArgument)
		}
		if !isKnown(t.key, known) {
			return Filter{}, fmt.Errorf("filter %q: there is no key %q, but %s: %w", x, t.key, describe(known), errdefs.ErrInvalidArgument)
		}
		f.terms = append(f.terms, t)
	}
	return f, nil
}

func isKnown(key string, known []string) bool {
	for _, k := range known {
		if strings.HasSuffix(k, ".") {
			if strings.HasPrefix(key, k) && len(key) > len(k) {
				return true
			}
		} else if key == k {
			return true
		}
	}
	return false
}

func describe(known []string) string {
	list := make([]string, len(known))
	for i, k := range known {
		if list[i] = k; strings.HasSuffix(k, ".") {
			list[i] += "NAME"
		}
	}
	return strings.Join(list, ", ")
}

func parseTerm(x string) (t term, err error) {
	rest := x
	if t.key, rest, err = parseKey(x); err != nil {
		return term{}, err
	}
	switch {
	case rest == "":
		return t, nil
	case strings.HasPrefix(rest, "=="), strings.HasPrefix(rest, "!="), strings.HasPrefix(rest, "~="):
		t.operator, t.value = operator(rest[:2]), rest[2:]
	case strings.HasPrefix(rest, "="):
		t.operator, t.value = equal, rest[1:]
	default:
		return term{}, fmt.Errorf("after the key comes ==, != or ~=, not %q", rest)
	}
	if strings.HasPrefix(t.value, `"`) {
		if t.value, err = strconv.Unquote(t.value); err != nil {
			return term{}, fmt.Errorf("the quotes of its value do not end where it does")
		}
	}
	if t.operator == matches {
		if t.regex, err = regexp.Compile(t.value); err != nil {
			return term{}, err
		}
	}
	return t, nil
}

// parseKey cuts the key off: up to the operator, or to the end of a quoted part.
func parseKey(x string) (key, rest string, err error) {
	i := strings.IndexAny(x, `="!~`)
	if i < 0 {
		i = len(x)
	}
	key, rest = x[:i], x[i:]
	if strings.HasPrefix(rest, `"`) && strings.HasSuffix(key, ".") {
		quoted, err := strconv.QuotedPrefix(rest)
		if err != nil {
			return "", "", fmt.Errorf("the quotes in its key are not closed")
		}
		name, err := strconv.Unquote(quoted)
		if err != nil {
			return "", "", err
		}
		key, rest = key+name, rest[len(quoted):]
	}
	if key == "" {
		return "", "", fmt.Errorf("it has no key: write KEY==VALUE")
	}
	return key, rest, nil
}

// Match says whether a thing is selected; lookup gives the value of a key, and whether the thing has it.
func (f Filter) Match(lookup func(key string) (string, bool)) bool {
	var wanted, met map[string]bool // by key: those with == and ~=, and those of them that matched
	for _, t := range f.terms {
		value, has := lookup(t.key)
		switch t.operator {
		case present:
			if !has {
				return false
			}
		case notEqual:
			if has && value == t.value {
				return false
			}
		default:
			if wanted == nil {
				wanted, met = map[string]bool{}, map[string]bool{}
			}
			wanted[t.key] = true
			if has && t.accepts(value) {
				met[t.key] = true
			}
		}
	}
	return len(wanted) == len(met)
}

func (t term) accepts(value string) bool {
	if t.operator == matches {
		return t.regex.MatchString(value)
	}
	return value == t.value
}
