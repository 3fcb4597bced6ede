package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/containerd/errdefs"

	"github.com/minirt/mini/internal/failpoint"
)

func keys(t *testing.T, words *Table[string]) string {
	t.Helper()
	list, err := words.List("")
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, e := range list {
		all = append(all, e.Key+"="+e.Value)
	}
	return strings.Join(all, " ")
}

func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestSoon: a change that is not on disk is seen by everybody, and by what comes after it.
func TestSoon(t *testing.T) {
	s := tempStore(t)
	words := NewTable[string](s, "words", 1, nil)
	ok(t, words.Put("n", "a", "disk"))
	ok(t, words.PutSoon("n", "b", "soon"))
	ok(t, words.PutSoon("n", "a", "again"))
	ok(t, words.CreateSoon("m", "c", "other"))
	if err := words.CreateSoon("n", "b", "twice"); !errdefs.IsAlreadyExists(err) {
		t.Errorf("a second record of the name: %v", err)
	}
	if got := keys(t, words); got != "c=other a=again b=soon" {
		t.Errorf("listed: %s", got)
	}
	if found, err := words.Find("n", "b"); err != nil || len(found) != 1 {
		t.Errorf("found: %v, %v", found, err)
	}
	ok(t, words.DeleteSoon("n", "a"))
	if v, err := words.Get("n", "a"); !errdefs.IsNotFound(err) {
		t.Errorf("deleted, and there: %q, %v", v, err)
	}
	_, err := words.Update("n", "b", func(v *string) error { *v += "!"; return nil })
	ok(t, err)
	if got := keys(t, words); got != "c=other b=soon!" {
		t.Errorf("after an update: %s", got)
	}
	if n := len(s.pending.Load().rows); n != 0 {
		t.Errorf("%d changes are not on disk after an update", n)
	}
	own := errors.New("own")
	if err := s.Soon(func(*Tx) error { return own }); !errors.Is(err, own) {
		t.Errorf("error: %v", err)
	}
	sound(t, s)
}

// TestSoonIsOnDiskLater: at the latest after the delay, at once with Flush and Close.
func TestSoonIsOnDiskLater(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db")
	s := openTest(t, path)
	words := NewTable[string](s, "words", 1, nil)
	ok(t, words.PutSoon("n", "a", "1"))
	if len(s.pending.Load().rows) != 1 {
		t.Error("it is on disk, and nobody wanted that")
	}
	for end := time.Now().Add(10 * SoonDelay); len(s.pending.Load().rows) > 0; time.Sleep(SoonDelay / 10) {
		if time.Now().After(end) {
			t.Fatal("it is not on disk after ten times the delay")
		}
	}
	ok(t, words.PutSoon("n", "b", "2"))
	ok(t, s.Flush())
	ok(t, os.Rename(s.journalPath(), s.journalPath()+".away"))
	ok(t, words.PutSoon("n", "c", "3"))
	ok(t, s.Close())
	s = openTest(t, path)
	if got := keys(t, NewTable[string](s, "words", 1, nil)); got != "a=1 b=2 c=3" {
		t.Errorf("the database alone has: %s", got)
	}
}

// TestPowerCut: whatever of the journal has reached the disk, the records are those of one moment.
func TestPowerCut(t *testing.T) {
	dir := t.TempDir()
	s := openTest(t, filepath.Join(dir, "db"))
	words := NewTable[string](s, "words", 1, nil)
	ok(t, words.PutSoon("n", "x", "old"))
	ok(t, words.PutSoon("n", "y", "old"))
	ok(t, words.Put("n", "x", "disk")) // the database has the journal from here on, and its entries are stale
	stale := read(t, s.journalPath())
	ok(t, words.PutSoon("n", "x", "1"))
	ok(t, words.PutSoon("n", "z", "2"))
	ok(t, words.DeleteSoon("n", "y"))
	database, journal := read(t, s.path), read(t, s.journalPath())
	want := []string{"x=disk y=old", "x=1 y=old", "x=1 y=old z=2", "x=1 z=2"}
	open := func(name string, journal []byte) string {
		path := filepath.Join(dir, name)
		ok(t, os.WriteFile(path, database, 0o600))
		ok(t, os.WriteFile(path+".journal", journal, 0o600))
		s, err := Open(t.Context(), Options{Path: path, Logger: s.log})
		ok(t, err)
		defer s.Close()
		got := keys(t, NewTable[string](s, "words", 1, nil))
		sound(t, s)
		return got
	}
	if got := open("stale", stale); got != want[0] {
		t.Errorf("with the journal of before the last commit: %s", got)
	}
	if stale := read(t, filepath.Join(dir, "stale.journal")); len(stale) > 0 {
		t.Errorf("a journal of another transaction stays: %d bytes", len(stale))
	}
	at := 0
	for n := 0; n < len(journal); n += 5 {
		got := open(fmt.Sprint(n), append(journal[:n:n], make([]byte, len(journal)-n)...))
		for at < len(want)-1 && got != want[at] {
			at++
		}
		if got != want[at] {
			t.Fatalf("with %d bytes of the journal: %s", n, got)
		}
	}
	if got := open("all", journal); got != want[3] {
		t.Errorf("with the whole journal: %s", got)
	}
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	ok(t, err)
	return data
}

// TestKilledSoon: what was told to be written survives the end of the process.
func TestKilledSoon(t *testing.T) {
	if path := os.Getenv("STORE_SOON_CHILD"); path != "" {
		words := NewTable[string](openTest(t, path), "words", 1, nil)
		ok(t, words.Put("n", "a", "disk"))
		ok(t, words.PutSoon("n", "b", "soon"))
		ok(t, words.DeleteSoon("n", "a"))
		return
	}
	for n, want := range []string{"", "a=disk b=soon", "b=soon"} {
		if n == 0 {
			continue
		}
		path := filepath.Join(t.TempDir(), fmt.Sprint(n))
		cmd := exec.Command(os.Args[0], "-test.run=^TestKilledSoon$")
		cmd.Env = append(os.Environ(), "STORE_SOON_CHILD="+path, fmt.Sprintf("%s=store-journaled=%d*kill", failpoint.Env, n))
		out, _ := cmd.CombinedOutput()
		if cmd.ProcessState.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
			t.Fatalf("the child was not killed: %s", out)
		}
		for range 2 { // the second time after a clean end
			s, err := Open(context.Background(), Options{Path: path, Logger: tempStore(t).log})
			ok(t, err)
			if got := keys(t, NewTable[string](s, "words", 1, nil)); got != want {
				t.Errorf("killed after %d changes: %s; want %s", n, got, want)
			}
			sound(t, s)
			ok(t, s.Close())
		}
	}
}

// TestJournalIsBounded: a great deal of it goes into the database by itself.
func TestJournalIsBounded(t *testing.T) {
	s := tempStore(t)
	words := NewTable[string](s, "words", 1, nil)
	long := strings.Repeat("x", 100_000)
	for i := range 30 {
		ok(t, words.PutSoon("n", fmt.Sprint(i), long))
	}
	info, err := os.Stat(s.journalPath())
	ok(t, err)
	if info.Size() > 2*journalLimit {
		t.Errorf("the journal has %d bytes", info.Size())
	}
	if list, err := words.List("n"); err != nil || len(list) != 30 {
		t.Errorf("%d records, %v", len(list), err)
	}
}

func FuzzReadEntry(f *testing.F) {
	f.Add(appendEntry(nil, 7, 0, map[row]write{{"kind", "a\x00b"}: {data: []byte("{}")}, {"kind", "c"}: {deleted: true}}))
	f.Add(appendEntry(nil, 7, 0, nil))
	f.Fuzz(func(t *testing.T, data []byte) {
		rows, n, whole := readEntry(data, 7, 0)
		if !whole {
			return
		}
		if n > len(data) {
			t.Fatalf("%d bytes read of %d", n, len(data))
		}
		again, _, whole := readEntry(appendEntry(nil, 7, 0, rows), 7, 0)
		if !whole || len(again) != len(rows) {
			t.Errorf("%v comes back as %v", rows, again)
		}
	})
}
