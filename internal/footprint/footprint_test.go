package footprint

import (
	"bytes"
	"os"
	"reflect"
	"strconv"
	"strings"
	"testing"
)

const smaps = `00400000-010ed000 r-xp 00000000 fe:00 1234                               /usr/bin/minid
Size:              13236 kB
Anonymous:             0 kB
VmFlags: rd ex mr mw me
010ed000-02342000 r--p 00ced000 fe:00 1234                               /usr/bin/minid
Anonymous:             0 kB
02342000-02343000 r--p 01f42000 fe:00 1234                               /usr/bin/minid
Anonymous:             4 kB
02343000-023d6000 rw-p 01f42000 fe:00 1234                               /usr/bin/minid
Anonymous:             0 kB
7f0000000000-7f0000001000 r-xp 00000000 fe:00 99                         /usr/bin/other
Anonymous:             0 kB
7ffd00000000-7ffd00001000 rw-p 00000000 00:00 0                          [stack]
Anonymous:             0 kB
`

func TestClean(t *testing.T) {
	want := []span{{0x400000, 0x10ed000}, {0x10ed000, 0x2342000}}
	if got := clean([]byte(smaps), "/usr/bin/minid"); !reflect.DeepEqual(got, want) {
		t.Errorf("got %x, want %x", got, want)
	}
}

func FuzzClean(f *testing.F) {
	f.Add([]byte(smaps))
	f.Fuzz(func(_ *testing.T, data []byte) { clean(data, "/usr/bin/minid") })
}

// What is let go must be fewer pages of the program, and it must run on.
func TestRelease(t *testing.T) {
	before := programPages(t)
	if err := Release(); err != nil {
		t.Fatal(err)
	}
	if after := programPages(t); after >= before {
		t.Errorf("%d KiB of the program are mapped, before it were %d", after, before)
	}
}

// programPages is what is mapped of files, in KiB.
func programPages(t *testing.T) int {
	t.Helper()
	data, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	for line := range bytes.Lines(data) {
		if rest, ok := strings.CutPrefix(string(line), "RssFile:"); ok {
			n, err := strconv.Atoi(strings.Fields(rest)[0])
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
	t.Fatal("no RssFile in /proc/self/status")
	return 0
}
