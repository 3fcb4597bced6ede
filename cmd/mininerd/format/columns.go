package format

import (
	"io"
	"reflect"
	"strings"
	"unicode/utf8"
)

// fieldsOf are the fields that a table's template names, when it names nothing else and all are text: what a template of
// the library would print, a table of docker's columns among it, is then printed without one.
func fieldsOf(row any, template string) (fields [][]int, ok bool) {
	t := reflect.TypeOf(row)
	if t.Kind() != reflect.Struct {
		return nil, false
	}
	for column := range strings.SplitSeq(template, `\t`) {
		name, opened := strings.CutPrefix(column, "{{.")
		name, closed := strings.CutSuffix(name, "}}")
		f, found := t.FieldByName(name)
		if _, method := t.MethodByName(name); !opened || !closed || !found || method || f.Type.Kind() != reflect.String {
			return nil, false
		}
		fields = append(fields, f.Index)
	}
	return fields, true
}

// The widths of columns are docker's: at least ten characters, and three between them.
const (
	minWidth = 10
	padding  = 3
)

// tabulate prints the rows below their header. The last column is as wide as what is in it.
func tabulate[T any](w io.Writer, fields [][]int, header T, rows []T) error {
	cells := make([]string, 0, len(fields)*(len(rows)+1))
	widths := make([]int, len(fields))
	add := func(row T) {
		v := reflect.ValueOf(row)
		for i, index := range fields {
			cell := v.FieldByIndex(index).String()
			cells = append(cells, cell)
			widths[i] = max(widths[i], utf8.RuneCountInString(cell)+padding)
		}
	}
	add(header)
	for _, row := range rows {
		add(row)
	}
	var out []byte
	for n, cell := range cells {
		i := n % len(fields)
		out = append(out, cell...)
		if i == len(fields)-1 {
			out = append(out, '\n')
			continue
		}
		for range max(widths[i], minWidth) - utf8.RuneCountInString(cell) {
			out = append(out, ' ')
		}
	}
	_, err := w.Write(out)
	return err
}
