package daemon

import (
	"errors"
	"fmt"
	"reflect"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/pelletier/go-toml/v2"

	"github.com/minirt/mini/internal/spell"
)

// explain says what is wrong with a configuration file, where, and what may have been meant.
func explain(err error) error {
	var strict *toml.StrictMissingError
	if errors.As(err, &strict) {
		var errs []error
		for _, e := range strict.Errors {
			row, _ := e.Position()
			errs = append(errs, fmt.Errorf("line %d: there is no key %q%s: %w",
				row, strings.Join(e.Key(), "."), didYouMean(e.Key(), knownKeys()), errdefs.ErrInvalidArgument))
		}
		return errors.Join(errs...)
	}
	var decode *toml.DecodeError
	if errors.As(err, &decode) {
		row, column := decode.Position()
		at := ""
		if key := strings.Join(decode.Key(), "."); key != "" {
			at = key + ": "
		}
		return fmt.Errorf("line %d, column %d: %s%s: %w", row, column, at, strings.TrimPrefix(decode.Error(), "toml: "), errdefs.ErrInvalidArgument)
	}
	return fmt.Errorf("%w: %w", err, errdefs.ErrInvalidArgument)
}

// knownKeys lists all keys with their tables, as "gc.interval"; a key of any runtime is "runtimes.*.path".
func knownKeys() [][]string { return keysOf(reflect.TypeFor[Config](), nil) }

func keysOf(t reflect.Type, prefix []string) [][]string {
	var keys [][]string
	for i := range t.NumField() {
		f := t.Field(i)
		key := append(prefix[:len(prefix):len(prefix)], f.Tag.Get("toml"))
		keys = append(keys, key)
		switch f.Type.Kind() {
		case reflect.Struct:
			keys = append(keys, keysOf(f.Type, key)...)
		case reflect.Map:
			every := append(key[:len(key):len(key)], "*")
			if of := f.Type.Elem(); of.Kind() == reflect.Struct {
				keys = append(keys, keysOf(of, every)...)
			} else {
				keys = append(keys, every)
			}
		}
	}
	return keys
}

// didYouMean finds the known key that is nearest: in the same table one that is spelled nearly so, else one of the same
// name in another table.
func didYouMean(unknown []string, known [][]string) string {
	name, table := unknown[len(unknown)-1], unknown[:len(unknown)-1]
	best, bestDistance := "", len(name)/3+2
	for _, k := range known {
		kname, ktable := k[len(k)-1], k[:len(k)-1]
		d := spell.Distance(name, kname)
		if !sameTable(table, ktable) {
			d++
			if kname != name {
				continue
			}
		}
		if d < bestDistance {
			best, bestDistance = strings.Join(k, "."), d
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf(": did you mean %q?", best)
}

func sameTable(a, b []string) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] && b[i] != "*" {
			return false
		}
	}
	return true
}
