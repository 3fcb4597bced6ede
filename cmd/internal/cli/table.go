package cli

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/docker/go-units"
	"github.com/urfave/cli/v2"
)

// OutputFlags are those of every command that lists: -q and -o.
func OutputFlags() []cli.Flag {
	return []cli.Flag{
		&cli.BoolFlag{Name: "quiet", Aliases: []string{"q"}, Usage: "print the names only"},
		&cli.StringFlag{Name: "output", Aliases: []string{"o"}, Value: "table", Usage: "`FORMAT`: table or json"},
	}
}

// List is what a listing prints: a table for people, names for scripts, or JSON.
type List struct {
	Header []string
	Rows   [][]string
	Names  []string // for -q, by default the first column
	JSON   any      // for -o json
}

// Print prints a list as the flags of OutputFlags say.
func (l List) Print(c *cli.Context) error {
	switch format := c.String("output"); {
	case c.Bool("quiet"):
		return l.printNames(c.App.Writer)
	case format == "json":
		return PrintJSON(c.App.Writer, l.JSON)
	case format == "table", format == "":
		return PrintTable(c.App.Writer, l.Header, l.Rows)
	default:
		return fmt.Errorf("output format %q: use table or json", format)
	}
}

func (l List) printNames(w io.Writer) error {
	names := l.Names
	if names == nil {
		for _, r := range l.Rows {
			names = append(names, r[0])
		}
	}
	for _, n := range names {
		if _, err := fmt.Fprintln(w, n); err != nil {
			return err
		}
	}
	return nil
}

// PrintTable prints rows below a header, in columns.
func PrintTable(w io.Writer, header []string, rows [][]string) error {
	out := bufio.NewWriter(w) // the other writes each cell and each gap by itself
	t := tabwriter.NewWriter(out, 4, 8, 4, ' ', 0)
	fmt.Fprintln(t, strings.Join(header, "\t"))
	for _, r := range rows {
		fmt.Fprintln(t, strings.Join(r, "\t"))
	}
	return errors.Join(t.Flush(), out.Flush())
}

// PrintJSON prints a value indented by two spaces; an empty list is [], a nil one too.
func PrintJSON(w io.Writer, v any) error {
	if r := reflect.ValueOf(v); r.Kind() == reflect.Slice && r.IsNil() {
		v = []string{}
	}
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(v)
}

// Size prints bytes as people read them.
func Size(n int64) string { return units.BytesSize(float64(n)) }

// Ago prints how long ago a time in nanoseconds since the epoch was; never for 0.
func Ago(ns int64) string {
	if ns == 0 {
		return "never"
	}
	return units.HumanDuration(time.Since(time.Unix(0, ns))) + " ago"
}

// Labels prints labels in order, joined by commas; - for none.
func Labels(labels map[string]string) string {
	if len(labels) == 0 {
		return "-"
	}
	parts := make([]string, 0, len(labels))
	for _, k := range sortedKeys(labels) {
		parts = append(parts, k+"="+labels[k])
	}
	return strings.Join(parts, ",")
}

// ParseLabels reads k=v arguments; "k=" asks for the label's removal.
func ParseLabels(args []string) (map[string]string, error) {
	labels := map[string]string{}
	for _, a := range args {
		k, v, ok := strings.Cut(a, "=")
		if !ok || k == "" {
			return nil, fmt.Errorf("label %q: write it as KEY=VALUE", a)
		}
		labels[k] = v
	}
	return labels, nil
}

// At prints a time in nanoseconds since the epoch; never for 0.
func At(ns int64) string {
	if ns == 0 {
		return "never"
	}
	return time.Unix(0, ns).Format(time.RFC3339)
}
