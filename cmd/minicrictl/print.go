package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"text/template"
	"time"

	"github.com/containerd/console"
	"github.com/containerd/errdefs"
	"github.com/docker/go-units"
	"github.com/urfave/cli/v2"
	"golang.org/x/text/cases"
	"golang.org/x/text/language"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"sigs.k8s.io/yaml"
)

// The formats of -o.
const (
	formatJSON     = "json"
	formatYAML     = "yaml"
	formatTemplate = "go-template"
	formatTable    = "table"
	formatWide     = "wide"
)

// outputFlag is -o with the formats that a command knows, the default first.
func outputFlag(formats ...string) cli.Flag {
	return &cli.StringFlag{Name: "output", Aliases: []string{"o"}, Usage: "`FORMAT`: " + strings.Join(formats, ", ") + " (" + formats[0] + " by default)"}
}

func templateFlag() cli.Flag {
	return &cli.StringFlag{Name: "template", Usage: "`TEMPLATE` of Go's text/template, for -o go-template"}
}

// outputOf reads -o.
func outputOf(c *cli.Context, formats ...string) (string, error) {
	chosen := c.String("output")
	if chosen == "" {
		return formats[0], nil
	}
	for _, f := range formats {
		if f == chosen {
			return f, nil
		}
	}
	return "", fmt.Errorf("output format %q: use one of %s: %w", chosen, strings.Join(formats, ", "), errdefs.ErrInvalidArgument)
}

// messageJSON is a message as protobuf's JSON, with the fields that have their zero value, and indented always the same:
// protojson itself varies its spaces on purpose.
func messageJSON(m proto.Message) ([]byte, error) {
	data, err := protojson.MarshalOptions{EmitDefaultValues: true}.Marshal(m)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	err = json.Indent(&b, data, "", "  ")
	return b.Bytes(), err
}

// printMessage prints a message as JSON, YAML or by a template.
func printMessage(w io.Writer, m proto.Message, format, text string) error {
	data, err := messageJSON(m)
	if err != nil {
		return err
	}
	return printJSON(w, data, format, text)
}

// printJSON prints a JSON text in one of the formats.
func printJSON(w io.Writer, data []byte, format, text string) error {
	switch format {
	case formatYAML:
		out, err := yaml.JSONToYAML(data)
		if err != nil {
			return err
		}
		_, err = w.Write(out)
		return err
	case formatTemplate:
		return printTemplate(w, data, text)
	}
	_, err := fmt.Fprintln(w, string(data))
	return err
}

// printTemplate applies a template to a JSON text. A field that is not there is an error.
func printTemplate(w io.Writer, data []byte, text string) error {
	t, err := parseTemplate(text)
	if err != nil {
		return err
	}
	var value any
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	if err := d.Decode(&value); err != nil {
		return err
	}
	var b bytes.Buffer
	if err := t.Execute(&b, value); err != nil {
		return fmt.Errorf("--template: %w: %w", err, errdefs.ErrInvalidArgument)
	}
	_, err = fmt.Fprintln(w, b.String())
	return err
}

func parseTemplate(text string) (*template.Template, error) {
	t, err := template.New("template").Option("missingkey=error").Funcs(template.FuncMap{
		"json": func(v any) (string, error) {
			var b strings.Builder
			err := json.NewEncoder(&b).Encode(v)
			return b.String(), err
		},
		"title": cases.Title(language.Und, cases.NoLower).String,
		"lower": cases.Lower(language.Und).String, "upper": cases.Upper(language.Und).String,
	}).Parse(text)
	if err != nil {
		return nil, fmt.Errorf("--template: %w: %w", err, errdefs.ErrInvalidArgument)
	}
	return t, nil
}

// printTable prints rows below a header, which is bold on a terminal.
func printTable(w io.Writer, header []string, rows [][]string) error {
	var b bytes.Buffer
	t := tabwriter.NewWriter(&b, 20, 1, 3, ' ', 0)
	fmt.Fprintln(t, strings.Join(header, "\t"))
	for _, r := range rows {
		fmt.Fprintln(t, strings.Join(r, "\t"))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	if colours(w) {
		head, rest, _ := bytes.Cut(b.Bytes(), []byte{'\n'})
		_, err := fmt.Fprintf(w, "\x1b[1m%s\x1b[0m\n%s", head, rest)
		return err
	}
	_, err := w.Write(b.Bytes())
	return err
}

// listed is a list of objects with the faces that ps, pods and images have.
type listed[T any] struct {
	message proto.Message // -o json and -o yaml
	id      func(T) string
	detail  func(io.Writer, T) // --verbose
	table   func() error
}

func (l listed[T]) print(c *cli.Context, format string, all []T) error {
	switch {
	case format == formatJSON || format == formatYAML:
		return printMessage(c.App.Writer, l.message, format, "")
	case !c.Bool("quiet") && !c.Bool("verbose"):
		return l.table()
	}
	for _, one := range all {
		if c.Bool("quiet") {
			fmt.Fprintln(c.App.Writer, l.id(one))
		} else {
			l.detail(c.App.Writer, one)
		}
	}
	return nil
}

// colours says whether w is a terminal of somebody who wants them (https://no-color.org).
func colours(w io.Writer) bool { return terminal(w) && os.Getenv("NO_COLOR") == "" }

func terminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	_, err := console.ConsoleFromFile(f)
	return err == nil
}

// shortID is as much of an identifier as tables have.
const shortID = 13

// short cuts an identifier, without the prefix of its algorithm.
func short(id, prefix string) string {
	id = strings.TrimPrefix(id, prefix)
	return id[:min(len(id), shortID)]
}

// ago is how long ago a time in nanoseconds since the epoch was.
func ago(ns int64, now time.Time) string {
	return units.HumanDuration(now.Sub(time.Unix(0, ns))) + " ago"
}

// printLabels prints labels or annotations of a detailed listing; nil are not there.
func printLabels(w io.Writer, title string, labels map[string]string) {
	if labels == nil {
		return
	}
	fmt.Fprintln(w, title+":")
	for _, k := range sortedKeys(labels) {
		fmt.Fprintf(w, "\t%s -> %s\n", k, labels[k])
	}
}
