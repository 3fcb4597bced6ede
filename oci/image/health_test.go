package image

import (
	"reflect"
	"testing"
	"time"
)

func TestParseHealthCheck(t *testing.T) {
	for config, want := range map[string]*HealthCheck{
		`{}`:                                 nil,
		`{"config":{"Cmd":["Healthcheck"]}}`: nil,
		`{"config":{"Healthcheck":null}}`:    nil,
		`{"config":{"Healthcheck":{"Test":["CMD","x"],"Interval":5000000000,"Retries":2}}}`: {Test: []string{"CMD", "x"}, Interval: 5 * time.Second, Retries: 2},
		`{"config":{"Healthcheck":{"Test":["NONE"]}}}`:                                      {Test: []string{"NONE"}},
	} {
		got, err := ParseHealthCheck([]byte(config))
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v, %v", config, got, err)
		}
	}
	if _, err := ParseHealthCheck([]byte(`{"config":{"Healthcheck":{"Interval":"5s"}}}`)); err == nil {
		t.Error("an interval that is no number")
	}
}

func FuzzParseHealthCheck(f *testing.F) {
	f.Add([]byte(`{"config":{"Healthcheck":{"Test":["CMD","x"],"Interval":5000000000,"Retries":2}}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		if h, err := ParseHealthCheck(data); h != nil && err != nil {
			t.Error("both a check and an error")
		}
	})
}
