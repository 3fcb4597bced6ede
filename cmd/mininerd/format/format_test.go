package format

import (
	"strings"
	"testing"
)

type row struct {
	ID, Name string
	labels   map[string]string
}

func (r row) Label(name string) string { return r.labels[name] }
func (r row) Raw() string              { return "id:{{pad .ID 1 0}}\nname: {{.Name}}\n" }

func TestList(t *testing.T) {
	header := row{ID: "ID", Name: "NAME"}
	rows := []row{{ID: "1", Name: "one", labels: map[string]string{"a": "b"}}, {ID: "2", Name: "t<o"}}
	for format, want := range map[string]string{
		"":                                 "ID        NAME\n1         one\n2         t<o\n",
		"table":                            "ID        NAME\n1         one\n2         t<o\n",
		"raw":                              "id: 1\nname: one\n\nid: 2\nname: t<o\n\n",
		"table {{pad .Name 0 1}}|":         "NAME |\none |\nt<o |\n",
		"table {{.Name}}":                  "NAME\none\nt<o\n",
		`table {{upper .Name}}\t{{.ID}}`:   "NAME      ID\nONE       1\nT<O       2\n",
		"json":                             "{\"ID\":\"1\",\"Name\":\"one\"}\n{\"ID\":\"2\",\"Name\":\"t<o\"}\n",
		"{{.ID}}: {{.Label \"a\"}}":        "1: b\n2: \n",
		`{{.ID}}\t{{pad .Name 1 2}}|`:      "1\t one  |\n2\t t<o  |\n",
		"{{truncate .Name 2}}":             "on\nt<\n",
		`{{join (split .Name "n") "-"}}`:   "o-e\nt<o\n",
		"{{title .Name}} {{json .Name}}":   "One \"one\"\nT<o \"t<o\"\n",
		"{{if eq .ID \"1\"}}first{{end}}x": "firstx\nx\n",
	} {
		var b strings.Builder
		if err := List(&b, format, `{{.ID}}\t{{.Name}}`, header, rows); err != nil || b.String() != want {
			t.Errorf("%q: %q, %v, want %q", format, b.String(), err, want)
		}
	}
	for _, wrong := range []string{"{{.Nothing}}", "{{", "{{nothing .ID}}", "table {{.Nothing}}"} {
		if err := List(&strings.Builder{}, wrong, "", header, rows); err == nil {
			t.Errorf("%q: no error", wrong)
		}
	}
}

func TestDocuments(t *testing.T) {
	type document struct {
		ID   string `json:"Id"`
		Path []string
	}
	all := []document{{ID: "1", Path: []string{"a", "b"}}}
	for format, want := range map[string]string{
		"":                          "[\n    {\n        \"Id\": \"1\",\n        \"Path\": [\n            \"a\",\n            \"b\"\n        ]\n    }\n]\n",
		"{{.Id}}":                   "1\n",
		"{{.ID}}":                   "1\n",
		"{{json .}}":                "{\"Id\":\"1\",\"Path\":[\"a\",\"b\"]}\n",
		"json":                      "{\"Id\":\"1\",\"Path\":[\"a\",\"b\"]}\n",
		`{{join .Path "/"}}`:        "a/b\n",
		`{{.Id}} {{index .Path 1}}`: "1 b\n",
	} {
		var b strings.Builder
		if err := Documents(&b, format, all); err != nil || b.String() != want {
			t.Errorf("%q: %q, %v, want %q", format, b.String(), err, want)
		}
	}
	if err := Documents(&strings.Builder{}, "{{.Nothing}}", all); err == nil {
		t.Error("a field that is not there: no error")
	}
	var b strings.Builder
	if err := Documents[document](&b, "", nil); err != nil || b.String() != "[]\n" {
		t.Errorf("no documents: %q, %v", b.String(), err)
	}
}
