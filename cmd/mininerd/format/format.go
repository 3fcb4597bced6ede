// Package format prints lists and documents as docker does: by Go templates with docker's functions, as tables whose
// columns a template names, or as JSON. It knows nothing of what it prints.
package format

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"text/template"

	"github.com/containerd/errdefs"
)

const (
	tableKey = "table"
	jsonKey  = "json"
	rawKey   = "raw"
)

// List prints rows by docker's --format: empty is the table of the columns that standard names, "table" with a template
// has that template's columns, "json" is one object a line, "raw" a field a line where the rows say how (Raw), and anything
// else is a template for each row. header is a row of the columns' names.
func List[T any](w io.Writer, format, standard string, header T, rows []T) error {
	format = strings.TrimSpace(format)
	if format == jsonKey {
		format = "{{json .}}"
	}
	if r, ok := any(header).(interface{ Raw() string }); ok && format == rawKey {
		format = r.Raw()
	}
	if format == "" || format == tableKey {
		format = tableKey + " " + standard
	}
	text, table := strings.CutPrefix(format, tableKey+" ")
	if columns, plain := fieldsOf(header, text); table && plain {
		return tabulate(w, columns, header, rows)
	}
	t, err := parse(text, functions())
	if err != nil {
		return err
	}
	out := bufio.NewWriter(w) // a table writes each cell and each gap by itself
	if !table {
		return errors.Join(each(out, t, rows), out.Flush())
	}
	head, err := parse(text, headerFunctions())
	if err != nil {
		return err
	}
	columns := tabwriter.NewWriter(out, 10, 1, 3, ' ', 0)
	if err := each(columns, head, []T{header}); err != nil {
		return err
	}
	if err := each(columns, t, rows); err != nil {
		return err
	}
	return errors.Join(columns.Flush(), out.Flush())
}

func each[T any](w io.Writer, t *template.Template, rows []T) error {
	for _, row := range rows {
		if err := execute(w, t, row); err != nil {
			return err
		}
	}
	return nil
}

// execute writes a line, or none when the template fails.
func execute(w io.Writer, t *template.Template, value any) error {
	var line bytes.Buffer
	if err := t.Execute(&line, value); err != nil {
		return fmt.Errorf("template: %w: %w", err, errdefs.ErrInvalidArgument)
	}
	line.WriteByte('\n')
	_, err := w.Write(line.Bytes())
	return err
}

// Documents prints what inspect prints: without a format a JSON array, indented by four spaces, else each document by the
// template. A template may also name fields as the JSON does.
func Documents[T any](w io.Writer, format string, documents []T) error {
	switch format {
	case "":
		if documents == nil {
			documents = []T{}
		}
		return indented(w, documents)
	case jsonKey:
		format = "{{json .}}"
	}
	t, err := parse(format, functions())
	if err != nil {
		return err
	}
	for _, d := range documents {
		if err := document(w, t, d); err != nil {
			return err
		}
	}
	return nil
}

// One prints one document by a template, or as JSON when the format is "json".
func One(w io.Writer, format string, value any) error { return Documents(w, format, []any{value}) }

// document tries the document as it is, then as its JSON. A key that a map does not have is "<no value>" in the former, as
// docker prints it, and in the latter, where every field is a key, a mistake.
func document(w io.Writer, t *template.Template, d any) error {
	err := execute(w, t, d)
	if err == nil {
		return nil
	}
	data, encodeErr := json.Marshal(d)
	if encodeErr != nil {
		return encodeErr
	}
	var generic any
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.UseNumber()
	if decoder.Decode(&generic) != nil || execute(w, t.Option("missingkey=error"), generic) != nil {
		return err
	}
	return nil
}

func indented(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "    ")
	e.SetEscapeHTML(false)
	return e.Encode(v)
}

// parse reads a template as a shell gives it: \t and \n are what they mean.
func parse(text string, f template.FuncMap) (*template.Template, error) {
	text = strings.NewReplacer(`\t`, "\t", `\n`, "\n").Replace(text)
	t, err := template.New("").Funcs(f).Parse(text)
	if err != nil {
		return nil, fmt.Errorf("template parsing error: %w: %w", err, errdefs.ErrInvalidArgument)
	}
	return t, nil
}

// functions are docker's (docs.docker.com/engine/cli/formatting).
func functions() template.FuncMap {
	return template.FuncMap{
		"json": func(v any) (string, error) {
			var b bytes.Buffer
			e := json.NewEncoder(&b)
			e.SetEscapeHTML(false)
			err := e.Encode(v)
			return strings.TrimSpace(b.String()), err
		},
		"split": strings.Split, "join": join, "lower": strings.ToLower, "upper": strings.ToUpper, "title": title,
		"pad": pad, "truncate": truncate, "println": fmt.Sprintln,
	}
}

// headerFunctions leave the names of columns as they are.
func headerFunctions() template.FuncMap {
	same := func(v string) string { return v }
	return template.FuncMap{
		"json": same, "title": same, "lower": same, "upper": same,
		"split": func(v, _ string) string { return v }, "join": func(v, _ string) string { return v },
		"pad": pad, "truncate": func(v string, _ int) string { return v },
		"println": fmt.Sprintln,
	}
}

// join takes any list: those of generic JSON have any elements.
func join(list any, separator string) (string, error) {
	switch l := list.(type) {
	case []string:
		return strings.Join(l, separator), nil
	case []any:
		parts := make([]string, len(l))
		for i, v := range l {
			parts[i] = fmt.Sprint(v)
		}
		return strings.Join(parts, separator), nil
	case nil:
		return "", nil
	}
	return "", fmt.Errorf("join: %T is not a list", list)
}

func title(s string) string {
	if s == "" {
		return ""
	}
	return strings.ToUpper(s[:1]) + s[1:]
}

func pad(s string, before, after int) string {
	if s == "" {
		return s
	}
	return strings.Repeat(" ", max(0, before)) + s + strings.Repeat(" ", max(0, after))
}

func truncate(s string, n int) string {
	r := []rune(s)
	return string(r[:min(len(r), max(0, n))])
}
