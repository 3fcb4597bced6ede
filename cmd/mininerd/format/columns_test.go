package format

import (
	"bytes"
	"strings"
	"testing"
	"text/tabwriter"
)

type columns struct{ A, B, C string }

// Method is no field.
func (columns) Method() string { return "" }

// TestTabulate compares with the library's tables.
func TestTabulate(t *testing.T) {
	const template = `{{.A}}\t{{.B}}\t{{.C}}`
	header := columns{"A COLUMN", "B", "C"}
	for name, rows := range map[string][]columns{
		"none": nil, "short": {{"a", "b", "c"}}, "empty": {{"", "", ""}, {"a", "", ""}}, "wide": {{"a longer one than the rest", "äöü", "x"}, {"1", "日本語", ""}},
	} {
		fields, ok := fieldsOf(header, template)
		if !ok {
			t.Fatal("plain fields are not seen as such")
		}
		var got, want bytes.Buffer
		if err := tabulate(&got, fields, header, rows); err != nil {
			t.Fatal(err)
		}
		w := tabwriter.NewWriter(&want, minWidth, 1, padding, ' ', 0)
		for _, r := range append([]columns{header}, rows...) {
			w.Write([]byte(strings.Join([]string{r.A, r.B, r.C}, "\t") + "\n"))
		}
		w.Flush()
		if got.String() != want.String() {
			t.Errorf("%s:\n%q, not\n%q", name, got.String(), want.String())
		}
	}
}

// TestFieldsOf leaves to templates what is more than fields.
func TestFieldsOf(t *testing.T) {
	for _, text := range []string{"{{.A}} {{.B}}", "{{.None}}", "{{.Method}}", "{{json .}}", "{{.A | upper}}", "A", "", "{{.A}}\t"} {
		if fields, ok := fieldsOf(columns{}, text); ok {
			t.Errorf("%q is %v", text, fields)
		}
	}
}
