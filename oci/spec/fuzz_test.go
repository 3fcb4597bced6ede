package spec

import (
	"encoding/json"
	"testing"
	"testing/fstest"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

func FuzzAccounts(f *testing.F) {
	files := accounts()
	f.Add(files["etc/passwd"].Data, files["etc/group"].Data, "app:docker")
	f.Add([]byte("a:x:4294967295:0:::\n:::\n"), []byte("g:x:-1:a,,b\n"), "4294967295")
	f.Fuzz(func(t *testing.T, passwd, group []byte, want string) {
		files := fstest.MapFS{"etc/passwd": {Data: passwd}, "etc/group": {Data: group}}
		id, err := resolveUser(files, want)
		if err != nil {
			return
		}
		if id.uid > maxID || id.gid > maxID || id.home == "" {
			t.Errorf("%q: %+v", want, id)
		}
	})
}

func FuzzSeccompProfile(f *testing.F) {
	f.Add([]byte(`{"defaultAction":"SCMP_ACT_ERRNO","archMap":[{"architecture":"SCMP_ARCH_X86_64","subArchitectures":["SCMP_ARCH_X86"]}],"syscalls":[{"names":["a"],"action":"SCMP_ACT_ALLOW","args":[{"index":1,"value":2,"op":"SCMP_CMP_EQ"}],"includes":{"caps":["CAP_SYS_ADMIN"],"minKernel":"4.8"},"excludes":{"arches":["s390"]}}]}`))
	f.Add([]byte(`{"defaultAction":"SCMP_ACT_NOTIFY","syscalls":[{"name":"a","action":"SCMP_ACT_LOG"}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		s := empty()
		filter, err := seccompFilter(data, s)
		if err != nil {
			return
		}
		if filter == nil || checkSeccomp(filter) != nil {
			t.Errorf("an unchecked filter: %+v", filter)
		}
	})
}

func FuzzPatch(f *testing.F) {
	f.Add([]byte(`{"hostname":null,"linux":{"namespaces":[]}}`))
	f.Add([]byte(`{"mounts":[{"destination":"/x"}]} {}`))
	document, err := Default("")
	if err != nil {
		f.Fatal(err)
	}
	before := show(document)
	f.Fuzz(func(t *testing.T, patch []byte) {
		out, err := Patch(document, patch)
		if show(document) != before {
			t.Fatal("the document given was changed")
		}
		if err == nil && out == nil {
			t.Error("neither a document nor an error")
		}
	})
}

// TestMergePatch has the examples of RFC 7396, appendix A.
func TestMergePatch(t *testing.T) {
	for _, c := range [][3]string{
		{`{"a":"b"}`, `{"a":"c"}`, `{"a":"c"}`},
		{`{"a":"b"}`, `{"b":"c"}`, `{"a":"b","b":"c"}`},
		{`{"a":"b"}`, `{"a":null}`, `{}`},
		{`{"a":"b","b":"c"}`, `{"a":null}`, `{"b":"c"}`},
		{`{"a":["b"]}`, `{"a":"c"}`, `{"a":"c"}`},
		{`{"a":"c"}`, `{"a":["b"]}`, `{"a":["b"]}`},
		{`{"a":{"b":"c"}}`, `{"a":{"b":"d","c":null}}`, `{"a":{"b":"d"}}`},
		{`{"a":[{"b":"c"}]}`, `{"a":[1]}`, `{"a":[1]}`},
		{`["a","b"]`, `["c","d"]`, `["c","d"]`},
		{`{"a":"b"}`, `["c"]`, `["c"]`},
		{`{"a":"foo"}`, `null`, `null`},
		{`{"a":"foo"}`, `"bar"`, `"bar"`},
		{`{"e":null}`, `{"a":1}`, `{"a":1,"e":null}`},
		{`[1,2]`, `{"a":"b","c":null}`, `{"a":"b"}`},
		{`{}`, `{"a":{"bb":{"ccc":null}}}`, `{"a":{"bb":{}}}`},
	} {
		var target, patch any
		if err := json.Unmarshal([]byte(c[0]), &target); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal([]byte(c[1]), &patch); err != nil {
			t.Fatal(err)
		}
		if got := show(mergePatch(target, patch)); got != c[2] {
			t.Errorf("%s with %s: got %s, want %s", c[0], c[1], got, c[2])
		}
	}
}

func FuzzList(f *testing.F) {
	f.Add("0-3,5")
	f.Add("65535-0")
	f.Fuzz(func(t *testing.T, s string) {
		list, err := ParseList(s)
		for i, n := range list {
			if err != nil || n < 0 || n >= maxListed || (i > 0 && list[i-1] >= n) {
				t.Fatalf("%q: %v, %v", s, list, err)
			}
		}
	})
}

// FuzzRequest builds whatever a client may send.
func FuzzRequest(f *testing.F) {
	for _, r := range []Request{
		{Args: []string{"a"}, User: "app", Namespaces: map[string]string{"net": "host"}, Mounts: []Mount{{Source: "/a", Target: "/b"}}},
		{Args: []string{"a"}, Privileged: true, Resources: &specs.LinuxResources{CPU: &specs.LinuxCPU{Cpus: "0"}}, Patch: []byte(`{}`)},
	} {
		data, _ := json.Marshal(r)
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var r Request
		if json.Unmarshal(data, &r) != nil || r.Seccomp != "" { // a path would be read
			return
		}
		in := input(r)
		if s, _, err := Build(in); err == nil && s == nil {
			t.Error("neither a document nor an error")
		}
	})
}
