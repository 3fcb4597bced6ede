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

// tabulate prints these fields of the rows below those of their header.
func tabulate[T any](w io.Writer, fields [][]int, header T, rows []T) error {
	cells := func(row T) []string {
		v := reflect.ValueOf(row)
		out := make([]string, len(fields))
		for i, index := range fields {
			out[i] = v.FieldByIndex(index).String()
		}
		return out
	}
	all := make([][]string, len(rows))
	for i, row := range rows {
		all[i] = cells(row)
	}
	return Rows(w, cells(header), all)
}

// Rows prints a table of rows that are as long as their titles. The last column is as wide as what is in it.
func Rows(w io.Writer, titles []string, rows [][]string) error {
	widths := make([]int, len(titles))
	all := append([][]string{titles}, rows...)
	for _, row := range all {
		for i, cell := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell)+padding)
		}
	}
	var out []byte
	for _, row := range all {
		for i, cell := range row {
			out = append(out, cell...)
			if i == len(row)-1 {
				break
			}
			for range max(widths[i], minWidth) - utf8.RuneCountInString(cell) {
				out = append(out, ' ')
			}
		}
		out = append(out, '\n')
	}
	_, err := w.Write(out)
	return err
}
