package view

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/minirt/mini/runtime/api"
)

func someVolumes() []*api.Volume {
	return []*api.Volume{
		{Name: "logs", Driver: "local", Usage: &api.VolumeUsage{Size: 2048}},
		{Name: "data", Driver: "local", Labels: map[string]string{"a": "b"}, Containers: []*api.VolumeUser{{Id: "c"}}, Usage: &api.VolumeUsage{Size: 1024}, Mountpoint: "/v/data"},
	}
}

func TestVolumeFilters(t *testing.T) {
	for filters, want := range map[string]string{
		"":                        "data logs",
		"name=^d":                 "data",
		"label=a label=a=b":       "data",
		"label=a=c":               "",
		"dangling=true":           "logs",
		"dangling=0":              "data",
		"driver=nfs":              "",
		"size=1024":               "data",
		"size>1k":                 "logs",
		"size>=1k size<=2k":       "data logs",
		"size<1024":               "",
		"dangling=maybe":          "true or false",
		"size>lots":               "write a size",
		"colour=red":              "invalid filter 'colour'",
		"size":                    "bad format of filter",
		"name=data name=logs":     "data logs",
		"size>=1k dangling=false": "data",
	} {
		var got string
		f, err := ParseVolumeFilters(strings.Fields(filters))
		var rows []Volume
		if err == nil {
			rows, err = VolumeRows(someVolumes(), f)
		}
		for _, r := range rows {
			got = strings.TrimSpace(got + " " + r.Name)
		}
		if err != nil {
			got = err.Error()
		}
		if got != want && (err == nil || !strings.Contains(got, want)) {
			t.Errorf("%s: %s, want %s", filters, got, want)
		}
	}
}

func TestVolumeRows(t *testing.T) {
	list := someVolumes()
	list[0].Usage = nil
	rows, err := VolumeRows(list, VolumeFilters{})
	if err != nil || len(rows) != 2 {
		t.Fatal(rows, err)
	}
	for i, want := range []string{"data local 1 1.024kB a=b /v/data", "logs local N/A N/A  "} {
		r := rows[i]
		if got := fmt.Sprint(r.Name, " ", r.Driver, " ", r.Links, " ", r.Size, " ", r.Labels, " ", r.Mountpoint); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	if all, err := (Filters{"all": {"1"}}).All(false); !all || err != nil {
		t.Errorf("%t, %v", all, err)
	}
	document, err := json.Marshal(DocumentOfVolume(someVolumes()[1]))
	if err != nil || !strings.Contains(string(document), `"Driver":"local","Labels":{"a":"b"},"Mountpoint":"/v/data","Name":"data","Options":null,"Scope":"local","Size":1024}`) {
		t.Errorf("%s, %v", document, err)
	}
}

func TestMountPoints(t *testing.T) {
	got, err := json.Marshal(mountPoints([]*api.Mount{
		{Type: "volume", Volume: "data", Source: "/v/data", Target: "/a", Options: []string{"rbind"}},
		{Type: "volume", Volume: "data", Source: "/v/data", Target: "/b", Options: []string{"rbind", "ro"}},
		{Type: "volume", Volume: "1234", Source: "/v/1234", Target: "/c", Options: []string{"rbind"}, Anonymous: true},
		{Type: "volume", Volume: "data", Source: "/v/data", Target: "/d", Options: []string{"rbind", "ro"}, Inherited: true},
		{Type: "bind", Source: "/h", Target: "/e", Options: []string{"rbind", "ro", "rslave"}},
	}))
	const want = `[{"Type":"volume","Name":"data","Source":"/v/data","Destination":"/a","Driver":"local","Mode":"z","RW":true,"Propagation":""},` +
		`{"Type":"volume","Name":"data","Source":"/v/data","Destination":"/b","Driver":"local","Mode":"ro","RW":false,"Propagation":""},` +
		`{"Type":"volume","Name":"1234","Source":"/v/1234","Destination":"/c","Driver":"local","Mode":"","RW":true,"Propagation":""},` +
		`{"Type":"volume","Name":"data","Source":"/v/data","Destination":"/d","Driver":"local","Mode":"","RW":false,"Propagation":""},` +
		`{"Type":"bind","Source":"/h","Destination":"/e","Mode":"ro,rslave","RW":false,"Propagation":"rslave"}]`
	if err != nil || string(got) != want {
		t.Errorf("%s\nwant %s", got, want)
	}
}
