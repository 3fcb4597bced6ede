// Package layers holds the import law of the repository (rules.txt) and the house rules that a machine can check, as
// pure functions over parsed sources. Its tests apply them to the whole module. Nothing imports this package.
package layers

import (
	"bufio"
	"fmt"
	"io"
	"path"
	"strconv"
	"strings"
)

// Rules is the content of a rules file.
type Rules struct {
	floors  map[string]int
	beside  []relation
	allow   []relation
	never   []relation
	only    []relation
	exempts []Exemption
}

// relation is one line about a prefix and others.
type relation struct {
	subject string
	objects []string
}

// Exemption takes an object out of a house rule.
type Exemption struct {
	Check, Object, Reason string
}

// ParseRules reads a rules file; rules.txt says what its lines mean.
func ParseRules(r io.Reader) (*Rules, error) {
	rules := &Rules{floors: map[string]int{}}
	lines := bufio.NewScanner(r)
	for number := 1; lines.Scan(); number++ {
		text, _, _ := strings.Cut(lines.Text(), "#")
		fields := strings.Fields(text)
		if len(fields) == 0 {
			continue
		}
		if err := rules.add(fields); err != nil {
			return nil, fmt.Errorf("rules, line %d: %w", number, err)
		}
	}
	return rules, lines.Err()
}

func (r *Rules) add(fields []string) error {
	if len(fields) < 3 {
		return fmt.Errorf("%q: too few words", strings.Join(fields, " "))
	}
	rel := relation{subject: fields[1], objects: fields[2:]}
	switch fields[0] {
	case "floor":
		n, err := strconv.Atoi(fields[1])
		if err != nil {
			return fmt.Errorf("floor %q: not a number", fields[1])
		}
		r.floors[fields[2]] = n
	case "beside":
		r.beside = append(r.beside, rel)
	case "allow":
		r.allow = append(r.allow, rel)
	case "never":
		r.never = append(r.never, rel)
	case "only":
		r.only = append(r.only, rel)
	case "exempt":
		if len(fields) < 4 {
			return fmt.Errorf("exempt %s: the reason is missing", fields[2])
		}
		r.exempts = append(r.exempts, Exemption{Check: fields[1], Object: fields[2], Reason: strings.Join(fields[3:], " ")})
	default:
		return fmt.Errorf("%q: want floor, beside, allow, never, only or exempt", fields[0])
	}
	return nil
}

// below says whether name is prefix or a package below it.
func below(name, prefix string) bool {
	return name == prefix || strings.HasPrefix(name, prefix+"/")
}

func belowAny(name string, prefixes []string) bool {
	for _, p := range prefixes {
		if below(name, p) {
			return true
		}
	}
	return false
}

// room is the longest prefix with a floor that pkg is below.
func (r *Rules) room(pkg string) (prefix string, floor int, ok bool) {
	for p := pkg; p != "."; p = path.Dir(p) {
		if floor, ok := r.floors[p]; ok {
			return p, floor, true
		}
	}
	return "", 0, false
}

// Import is one import of a package. Both are written without the module's name where they belong to it (Local).
type Import struct {
	From, To string
	Local    bool
	Where    string // file:line
}

// CheckImport returns what is wrong with one import, or nothing.
func (r *Rules) CheckImport(i Import) []string {
	var bad []string
	complain := func(format string, args ...any) {
		bad = append(bad, fmt.Sprintf("%s: %s imports %s: ", i.Where, i.From, i.To)+fmt.Sprintf(format, args...))
	}
	for _, n := range r.never {
		if below(i.From, n.subject) && belowAny(i.To, n.objects) {
			complain("never, says the rule for %s", n.subject)
		}
	}
	for _, o := range r.only {
		if below(i.To, o.subject) && !belowAny(i.From, o.objects) {
			complain("only %s may", strings.Join(o.objects, ", "))
		}
	}
	if !i.Local {
		return bad
	}
	for _, a := range r.allow {
		if below(i.From, a.subject) && !belowAny(i.To, append(a.objects, a.subject)) {
			complain("%s may import %s and nothing else of this module", a.subject, strings.Join(a.objects, ", "))
		}
	}
	if complaint := r.checkFloor(i); complaint != "" {
		complain("%s", complaint)
	}
	return bad
}

func (r *Rules) checkFloor(i Import) string {
	fromRoom, from, ok := r.room(i.From)
	if !ok {
		return fmt.Sprintf("%s is on no floor; give it one in internal/layers/rules.txt", i.From)
	}
	toRoom, to, ok := r.room(i.To)
	switch {
	case !ok:
		return fmt.Sprintf("%s is on no floor; give it one in internal/layers/rules.txt", i.To)
	case to < from, fromRoom == toRoom:
		return ""
	case to > from:
		return fmt.Sprintf("floor %d does not import floor %d; an import goes down only", from, to)
	}
	for _, b := range r.beside {
		if below(i.From, b.subject) && belowAny(i.To, b.objects) {
			return ""
		}
	}
	return fmt.Sprintf("both are on floor %d, in different rooms (%s, %s); an import goes down only", from, fromRoom, toRoom)
}

// Exempt says whether a file or a name in it is taken out of a check.
func (r *Rules) Exempt(check, file, name string) bool {
	for _, e := range r.exempts {
		if e.Check == check && (e.Object == file+":"+name || below(file, e.Object)) {
			return true
		}
	}
	return false
}
