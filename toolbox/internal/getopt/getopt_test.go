package getopt

import (
	"reflect"
	"testing"
)

func TestParse(t *testing.T) {
	tests := []struct {
		spec, name string
		args       []string
		want       []Option
		rest       []string
		fails      bool
	}{
		{name: "glued value", spec: "d:f:s", args: []string{"-d:", "-f2", "x"}, want: []Option{{'d', ":"}, {'f', "2"}}, rest: []string{"x"}},
		{name: "letters in one word", spec: "ab:c", args: []string{"-acb", "v", "x"}, want: []Option{{'a', ""}, {'c', ""}, {'b', "v"}}, rest: []string{"x"}},
		{name: "ended", spec: "a", args: []string{"--", "-a"}, rest: []string{"-a"}},
		{name: "a dash is an operand", spec: "a", args: []string{"-", "-a"}, rest: []string{"-", "-a"}},
		{name: "unknown", spec: "a", args: []string{"-z"}, fails: true},
		{name: "value missing", spec: "a:", args: []string{"-a"}, fails: true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, rest, err := Parse(test.spec, test.args)
			if (err != nil) != test.fails {
				t.Fatalf("error %v, want one: %v", err, test.fails)
			}
			if err == nil && (!reflect.DeepEqual(got, test.want) || !reflect.DeepEqual(rest, test.rest)) {
				t.Fatalf("got %v, rest %v", got, rest)
			}
		})
	}
}
