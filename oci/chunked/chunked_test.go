package chunked_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"

	"github.com/minirt/mini/oci/chunked"
	"github.com/minirt/mini/oci/chunked/chunkedtest"
)

// table packs the text of a table and says where it is.
func table(t testing.TB, text string, start int64) (chunked.Table, []byte) {
	t.Helper()
	z, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	packed := z.EncodeAll([]byte(text), nil)
	return chunked.Table{Offset: start + 8, Size: int64(len(packed)), Plain: int64(len(text)), Checksum: digest.FromBytes(packed)}, packed
}

func segments(t testing.TB, text string, limit int64) ([]chunked.Segment, error) {
	t.Helper()
	where, packed := table(t, text, limit)
	var list []chunked.Segment
	err := where.Segments(bytes.NewReader(packed), func(s chunked.Segment) { list = append(list, s) })
	return list, err
}

// TestSegments cuts layers as the tables of containers/storage and of estargz describe them.
func TestSegments(t *testing.T) {
	for name, row := range map[string]struct {
		table string
		want  string // offset+size of each
		fails string
	}{
		"of containers/storage": {`{"version":1,"entries":[{"type":"dir","name":"d"},{"type":"reg","name":"a","size":5,"digest":"x","offset":20,"endOffset":50},
			{"type":"symlink","name":"l","linkName":"a"},{"type":"reg","name":"b","size":9,"digest":"y","offset":60,"endOffset":90}],"tarSplitDigest":"z"}`,
			"0+20 20+30 50+10 60+30 90+10", ""},
		"files of several chunks": {`{"entries":[{"type":"reg","name":"a","size":5,"digest":"x","offset":20,"endOffset":80,"chunkSize":3,"chunkDigest":"1"},
			{"type":"chunk","name":"a","offset":40,"chunkSize":2,"chunkOffset":3,"chunkDigest":"2"},{"type":"reg","name":"empty"}]}`,
			"0+20 20+20 40+40 80+20", ""},
		"of estargz":              {`{"entries":[{"type":"reg","name":"a","size":5,"digest":"x","offset":20},{"type":"reg","name":"b","size":9,"digest":"y","offset":60}]}`, "0+20 20+40 60+40", ""},
		"no file":                 {`{"entries":[]}`, "0+100", ""},
		"backwards":               {`{"entries":[{"type":"reg","name":"a","digest":"x","offset":20},{"type":"reg","name":"b","digest":"y","offset":10}]}`, "", "offset 10 is not between 20 and 100"},
		"beyond":                  {`{"entries":[{"type":"reg","name":"a","digest":"x","offset":101}]}`, "", "offset 101"},
		"negative":                {`{"entries":[{"type":"reg","name":"a","digest":"x","offset":-1}]}`, "", "offset -1"},
		"data without its digest": {`{"entries":[{"type":"reg","name":"a","offset":20}]}`, "", `"a" has data without a digest`},
		"no table":                {`[]`, "", "expected"},
		"cut off":                 {`{"entries":[{"type":"reg"`, "", "table of contents"},
		"entries of another type": {`{"entries":{}}`, "", "expected"},
	} {
		t.Run(name, func(t *testing.T) {
			list, err := segments(t, row.table, 100)
			var got []string
			for _, s := range list {
				got = append(got, fmt.Sprintf("%d+%d", s.Offset, s.Size))
			}
			if row.fails != "" {
				if err == nil || !strings.Contains(err.Error(), row.fails) {
					t.Errorf("error %v, want %s", err, row.fails)
				}
			} else if err != nil || strings.Join(got, " ") != row.want {
				t.Errorf("%s, %v; want %s", got, err, row.want)
			}
		})
	}
}

// TestKeys: the same data in another place is the same, and everything that a head has makes it another one.
func TestKeys(t *testing.T) {
	const file = `{"entries":[{"type":"reg","name":"a","mode":1,"uid":2,"modtime":"3","xattrs":{"k":"v"},"size":5,"digest":"x","offset":20,"endOffset":50}]}`
	first, err := segments(t, file, 100)
	if err != nil {
		t.Fatal(err)
	}
	for _, change := range [][2]string{{`"a"`, `"b"`}, {`"mode":1`, `"mode":3`}, {`"uid":2`, `"uid":0`}, {`"3"`, `"4"`}, {`"v"`, `"w"`}, {`"reg"`, `"odd"`}} {
		list, err := segments(t, strings.Replace(file, change[0], change[1], 1), 100)
		if err != nil || list[0].Key == first[0].Key || list[1].Key != first[1].Key || list[2].Key != first[2].Key {
			t.Errorf("%s: the head is to be another, the data the same: %v", change[1], err)
		}
	}
	for _, change := range [][2]string{{`"x"`, `"y"`}, {`"size":5`, `"size":6`}, {`"endOffset":50`, `"endOffset":51`}} {
		if list, err := segments(t, strings.Replace(file, change[0], change[1], 1), 100); err != nil || list[1].Key == first[1].Key {
			t.Errorf("%s: the data is to be another: %v", change[1], err)
		}
	}
	moved := strings.NewReplacer(`"offset":20`, `"offset":30`, `"endOffset":50`, `"endOffset":60`).Replace(file)
	if list, err := segments(t, moved, 100); err != nil || list[1].Key != first[1].Key || list[0].Key == first[0].Key {
		t.Errorf("data elsewhere is to be the same, a longer head another: %v", err)
	}
}

func TestChecksum(t *testing.T) {
	where, packed := table(t, `{"entries":[]}`, 100)
	where.Checksum = digest.FromString("another")
	if err := where.Segments(bytes.NewReader(packed), func(chunked.Segment) {}); err == nil || !strings.Contains(err.Error(), where.Checksum.String()) {
		t.Errorf("error %v, want one of the checksum", err)
	}
}

func TestAnnounced(t *testing.T) {
	sum := digest.FromString("x").String()
	for name, row := range map[string]struct {
		prefix, position, checksum string
		want                       bool
	}{
		"there":                 {"io.github.containers.", "100:20:300:1", sum, true},
		"of older writers":      {"io.containers.", "100:20:300:1", sum, true},
		"another type":          {"io.containers.", "100:20:300:2", sum, false},
		"outside":               {"io.containers.", "990:20:300:1", sum, false},
		"negative":              {"io.containers.", "-5:20:300:1", sum, false},
		"overflow":              {"io.containers.", "9223372036854775807:20:300:1", sum, false},
		"enormous":              {"io.containers.", "100:20:9000000000000:1", sum, false},
		"no numbers":            {"io.containers.", "a:b:c:d", sum, false},
		"without a checksum":    {"io.containers.", "100:20:300:1", "", false},
		"a checksum that isn't": {"io.containers.", "100:20:300:1", "sha256:12", false},
	} {
		got, ok := chunked.Announced(map[string]string{row.prefix + "zstd-chunked.manifest-position": row.position, row.prefix + "zstd-chunked.manifest-checksum": row.checksum}, 1000)
		if ok != row.want || ok && (got.Offset != 100 || got.Size != 20 || got.Plain != 300 || got.Start() != 92) {
			t.Errorf("%s: %+v %v", name, got, ok)
		}
	}
	if _, ok := chunked.Announced(nil, 1000); ok {
		t.Error("nothing is announced")
	}
}

// TestFind finds the table where the annotations say that it is.
func TestFind(t *testing.T) {
	l := chunkedtest.Make(t, chunkedtest.Files(t, 3, 1000, nil))
	size := int64(len(l.Blob))
	said, ok := chunked.Announced(l.Annotations, size)
	found, has := chunked.Find(bytes.NewReader(l.Blob), size)
	if said.Checksum = ""; !ok || !has || said != found {
		t.Errorf("announced %+v %v, found %+v %v", said, ok, found, has)
	}
	for _, blob := range [][]byte{nil, l.Blob[:100], l.Blob[:len(l.Blob)-1]} {
		if _, has := chunked.Find(bytes.NewReader(blob), int64(len(blob))); has {
			t.Errorf("a table in %d bytes", len(blob))
		}
	}
}

// TestPieces puts a layer together of another one and of what is missing, byte by byte the same.
func TestPieces(t *testing.T) {
	const size = 20000
	here := chunkedtest.Make(t, chunkedtest.Files(t, 200, size, nil))
	for name, row := range map[string]struct {
		other    map[int]int64
		requests int   // at most
		fetched  int64 // at most, bytes
	}{
		"one file":    {map[int]int64{50: 1000}, 1, size + 1000},
		"neighbours":  {map[int]int64{50: 1000, 51: 1001, 52: 1002}, 1, 3*size + 2000},
		"here, there": {map[int]int64{0: 1000, 100: 1001, 199: 1002}, 3, 3*size + 3000},
		"each second": {everySecond(200), 64, 200 * (size + 1000)},
	} {
		t.Run(name, func(t *testing.T) {
			l := chunkedtest.Make(t, chunkedtest.Files(t, 200, size, row.other))
			where, _ := chunked.Announced(l.Annotations, int64(len(l.Blob)))
			w, err := chunked.Want(where, bytes.NewReader(l.Blob[where.Offset:]))
			if err != nil {
				t.Fatal(err)
			}
			local, _ := chunked.Find(bytes.NewReader(here.Blob), int64(len(here.Blob)))
			if found, err := w.Look("here", bytes.NewReader(here.Blob), local); err != nil || !found || w.Whole() {
				t.Fatalf("found %v, whole %v, %v", found, w.Whole(), err)
			}
			var got []byte
			var fetched int64
			requests := 0
			for _, p := range w.Pieces() {
				if p.Offset != int64(len(got)) {
					t.Fatalf("a piece at %d, %d bytes are there", p.Offset, len(got))
				}
				if p.Layer == "" {
					got = append(got, l.Blob[p.Offset:p.End()]...)
					fetched, requests = fetched+p.Size, requests+1
				} else {
					got = append(got, here.Blob[p.From:p.From+p.Size]...)
				}
			}
			if !bytes.Equal(got, l.Blob[:where.Start()]) {
				t.Error("the layer is another one")
			}
			if requests > row.requests || fetched > row.fetched || requests == 0 {
				t.Errorf("%d requests for %d bytes, want at most %d for %d", requests, fetched, row.requests, row.fetched)
			}
		})
	}
}

func everySecond(n int) map[int]int64 {
	m := map[int]int64{}
	for i := 0; i < n; i += 2 {
		m[i] = int64(1000 + i)
	}
	return m
}

// FuzzSegments reads foreign tables: what it makes of them is a layer without gaps, or an error.
func FuzzSegments(f *testing.F) {
	f.Add([]byte(`{"version":1,"entries":[{"type":"reg","name":"a","size":5,"digest":"x","offset":20,"endOffset":50},{"type":"chunk","offset":30,"chunkDigest":"y"}]}`))
	f.Add([]byte(`{"entries":[{"type":"dir","name":"d","xattrs":{"a":"b"}}]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		list, err := segments(t, string(text), 100)
		if err != nil {
			return
		}
		var at int64
		for _, s := range list {
			if s.Offset != at || s.Size <= 0 {
				t.Fatalf("segments %v", list)
			}
			at += s.Size
		}
		if at != 100 {
			t.Errorf("the segments end at %d", at)
		}
	})
}
