package store

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/minirt/mini/internal/failpoint"
	"go.etcd.io/bbolt"
	"golang.org/x/sys/unix"
)

type pet struct {
	Name string
	Legs int
}

func openTest(t testing.TB, path string) *Store {
	t.Helper()
	s, err := Open(t.Context(), Options{Path: path, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// sound is the check that every test of writing ends with.
func sound(t testing.TB, s *Store) {
	t.Helper()
	problems, err := s.Check(context.Background())
	if err != nil || len(problems) > 0 {
		t.Errorf("check: %v, %v", problems, err)
	}
}

func tempStore(t testing.TB) *Store { return openTest(t, filepath.Join(t.TempDir(), "db", "meta.db")) }

func TestUpdateIsAllOrNothing(t *testing.T) {
	s := tempStore(t)
	pets, tags := NewTable[pet](s, "pet", 1, nil), NewTable[string](s, "tag", 1, nil)
	if err := pets.Create("a", "cat", pet{"cat", 4}); err != nil {
		t.Fatal(err)
	}
	no := errors.New("no")
	err := s.Update(func(tx *Tx) error {
		if err := tags.In(tx).Put("a", "cat", "soft"); err != nil {
			return err
		}
		if err := pets.In(tx).Delete("a", "cat"); err != nil {
			return err
		}
		if _, err := pets.In(tx).Get("a", "cat"); !errdefs.IsNotFound(err) {
			t.Errorf("a transaction does not see its own delete: %v", err)
		}
		if err := pets.In(tx).Put("a", "dog", pet{"dog", 4}); err != nil {
			return err
		}
		if l, err := pets.In(tx).List("a"); err != nil || len(l) != 1 || l[0].Key != "dog" {
			t.Errorf("a transaction does not see its own writes: %v, %v", l, err)
		}
		return no
	})
	if err != no {
		t.Fatalf("Update: %v", err)
	}
	if l, _ := pets.List(""); len(l) != 1 || l[0].Key != "cat" {
		t.Errorf("pets after a failed transaction: %v", l)
	}
	if l, _ := tags.List(""); len(l) != 0 {
		t.Errorf("tags after a failed transaction: %v", l)
	}
	sound(t, s)
}

func TestPanicReachesTheCaller(t *testing.T) {
	s := tempStore(t)
	func() {
		defer func() {
			if recover() != "mine" {
				t.Error("the panic did not arrive")
			}
		}()
		s.Update(func(*Tx) error { panic("mine") })
	}()
	if err := NewTable[pet](s, "pet", 1, nil).Create("", "cat", pet{}); err != nil {
		t.Fatalf("the store does not work after a panic: %v", err)
	}
}

// TestConcurrentWritersShareSyncs counts the database's commits. The first writer waits in its transaction until all
// others have queued.
func TestConcurrentWritersShareSyncs(t *testing.T) {
	s := tempStore(t)
	pets := NewTable[pet](s, "pet", 1, nil)
	const n = 100
	before := commits(t, s)
	started, release := make(chan struct{}), make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := s.Update(func(tx *Tx) error {
			close(started)
			<-release
			return pets.In(tx).Put("", "first", pet{})
		}); err != nil {
			t.Error(err)
		}
	})
	<-started
	for i := range n {
		wg.Go(func() {
			err := pets.Create("", fmt.Sprint(i%(n/2)), pet{Legs: i})
			if err != nil && !errdefs.IsAlreadyExists(err) {
				t.Error(err)
			}
		})
	}
	for queued := 0; queued < n; {
		s.lock.Lock()
		queued = len(s.waiting)
		s.lock.Unlock()
	}
	close(release)
	wg.Wait()
	if got := commits(t, s) - before; got > 2 {
		t.Errorf("%d writers made %d commits, want 2", n+1, got)
	}
	if l, err := pets.List(""); err != nil || len(l) != n/2+1 {
		t.Errorf("%d records, %v; want %d", len(l), err, n/2+1)
	}
	sound(t, s)
}

func commits(t *testing.T, s *Store) (id int) {
	t.Helper()
	if err := s.db.View(func(tx *bbolt.Tx) error { id = tx.ID(); return nil }); err != nil {
		t.Fatal(err)
	}
	return id
}

func TestAnUnchangedTransactionIsNotSynced(t *testing.T) {
	s := tempStore(t)
	before := commits(t, s)
	if err := s.Update(func(*Tx) error { return nil }); err != nil {
		t.Fatal(err)
	}
	if commits(t, s) != before {
		t.Error("committed")
	}
}

func TestClosed(t *testing.T) {
	s, err := Open(t.Context(), Options{Path: filepath.Join(t.TempDir(), "db"), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	pets := NewTable[pet](s, "pet", 1, nil)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := pets.Put("", "cat", pet{}); !errdefs.IsUnavailable(err) {
		t.Errorf("Put: %v", err)
	}
	if _, err := pets.Get("", "cat"); !errdefs.IsUnavailable(err) {
		t.Errorf("Get: %v", err)
	}
}

func TestSecondOpenNamesTheHolder(t *testing.T) {
	s := tempStore(t)
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Millisecond)
	defer cancel()
	_, err := Open(ctx, Options{Path: s.Path(), Logger: slog.New(slog.DiscardHandler)})
	if !errdefs.IsUnavailable(err) || !strings.Contains(err.Error(), fmt.Sprintf("process %d ", os.Getpid())) {
		t.Fatalf("second Open: %v", err)
	}
}

func TestOpenOfADamagedFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db")
	if err := os.WriteFile(path, []byte(strings.Repeat("not a database ", 2000)), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := Open(t.Context(), Options{Path: path, Logger: slog.New(slog.DiscardHandler)})
	if !errdefs.IsDataLoss(err) || !strings.Contains(err.Error(), path) {
		t.Fatalf("Open: %v", err)
	}
}

func TestSchema(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db")
	o := Options{Path: path, Logger: slog.New(slog.DiscardHandler)}
	s := openTest(t, path)
	pets := NewTable[pet](s, "pet", 1, nil)
	if err := pets.Create("", "cat", pet{"cat", 4}); err != nil {
		t.Fatal(err)
	}
	s.Close()

	rename := func(tx *bbolt.Tx) error { // the second version calls the table animal
		b, err := tx.CreateBucketIfNotExists([]byte("animal"))
		if err != nil {
			return err
		}
		if err := tx.Bucket([]byte("pet")).ForEach(b.Put); err != nil {
			return err
		}
		return tx.DeleteBucket([]byte("pet"))
	}
	broken := func(*bbolt.Tx) error { return errors.New("boom") }
	if _, err := open(t.Context(), o, migrations{rename, broken}); err == nil || !strings.Contains(err.Error(), "from schema 2 to 3") {
		t.Fatalf("broken migration: %v", err)
	}
	second, err := open(t.Context(), o, migrations{rename})
	if err != nil {
		t.Fatal(err)
	}
	if v, err := NewTable[pet](second, "animal", 1, nil).Get("", "cat"); err != nil || v.Legs != 4 {
		t.Errorf("after the migration: %v, %v", v, err)
	}
	second.Close()

	_, err = Open(t.Context(), o)
	if !errdefs.IsFailedPrecondition(err) || !strings.Contains(err.Error(), "schema 2") || !strings.Contains(err.Error(), "up to 1") {
		t.Errorf("a newer schema: %v", err)
	}
}

func TestCheckFindsDamage(t *testing.T) {
	s := tempStore(t)
	NewTable[pet](s, "pet", 1, nil)
	err := s.Update(func(tx *Tx) error {
		tx.put(row{"pet", join("a", "damaged")}, []byte(`{"v":1,"da`))
		tx.put(row{"pet", join("a", "newer")}, []byte(`{"v":7,"data":{}}`))
		tx.put(row{"pet", join("a", "good")}, []byte(`{"v":1,"data":{}}`))
		tx.put(row{"ghost", join("", "x")}, []byte(`{"v":1,"data":{}}`))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	problems, err := s.Check(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	text, _ := json.Marshal(problems)
	for _, want := range []string{"pet damaged in namespace a", "version 7", "table ghost"} {
		if !strings.Contains(string(text), want) {
			t.Errorf("problems do not have %q: %s", want, text)
		}
	}
	if len(problems) != 3 {
		t.Errorf("%d problems: %s", len(problems), text)
	}
}

// TestFullDisk fills a small file system, and needs root for it.
func TestFullDisk(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=256k"); err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
	s := openTest(t, filepath.Join(dir, "db"))
	pets := NewTable[pet](s, "pet", 1, nil)
	var err error
	n := 0
	for ; n < 10000; n++ {
		if err = pets.Create("", fmt.Sprint(n), pet{Name: strings.Repeat("x", 2000)}); err != nil {
			break
		}
	}
	if !errdefs.IsResourceExhausted(err) || !errors.Is(err, unix.ENOSPC) || !strings.Contains(err.Error(), "free some space") {
		t.Fatalf("a full disk: %v", err)
	}
	if l, err := pets.List(""); err != nil || len(l) != n {
		t.Errorf("%d records, %v; want %d", len(l), err, n)
	}
	sound(t, s)
	if err := unix.Mount("", dir, "", unix.MS_REMOUNT, "size=1m"); err != nil {
		t.Fatal(err)
	}
	if err := pets.Create("", "again", pet{}); err != nil {
		t.Errorf("with space again: %v", err)
	}
	sound(t, s)
}

// TestReservedSpace has something else fill the disk, and needs root for it.
func TestReservedSpace(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=8m"); err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
	path := filepath.Join(dir, "db")
	s := openTest(t, path)
	if err := os.WriteFile(filepath.Join(dir, "filler"), make([]byte, 16<<20), 0o600); !errors.Is(err, unix.ENOSPC) {
		t.Fatalf("filler: %v", err)
	}
	pets := NewTable[pet](s, "pet", 1, nil)
	for i := range 200 {
		if err := pets.Create("", fmt.Sprint(i), pet{Name: strings.Repeat("x", 2000)}); err != nil {
			t.Fatalf("record %d on a full disk: %v", i, err)
		}
	}
	s.Close()
	s = openTest(t, path) // a daemon can start, too
	pets = NewTable[pet](s, "pet", 1, nil)
	if err := pets.Delete("", "7"); err != nil {
		t.Errorf("Delete on a full disk: %v", err)
	}
	sound(t, s)
}

// TestKilledWriter kills a child at both ends of a commit; what it was told to be saved has to be there.
func TestKilledWriter(t *testing.T) {
	if path := os.Getenv("STORE_CHILD"); path != "" {
		s := openTest(t, path)
		pets := NewTable[pet](s, "pet", 1, nil)
		for i := range 100 {
			if err := pets.Create("", fmt.Sprint(i), pet{Legs: i}); err != nil {
				t.Fatal(err)
			}
			fmt.Printf("saved %d\n", i)
		}
		return
	}
	for _, point := range []string{"store-before-commit", "store-after-commit"} {
		path := filepath.Join(t.TempDir(), point)
		cmd := exec.Command(os.Args[0], "-test.run=^TestKilledWriter$")
		cmd.Env = append(os.Environ(), "STORE_CHILD="+path, failpoint.Env+"="+point+"=20*kill")
		out, _ := cmd.Output()
		if cmd.ProcessState.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
			t.Fatalf("%s: the child was not killed: %s", point, out)
		}
		s := openTest(t, path)
		pets := NewTable[pet](s, "pet", 1, nil)
		saved := 0
		for lines := bufio.NewScanner(strings.NewReader(string(out))); lines.Scan(); saved++ {
			var i int
			fmt.Sscanf(lines.Text(), "saved %d", &i)
			if v, err := pets.Get("", fmt.Sprint(i)); err != nil || v.Legs != i {
				t.Errorf("%s: record %d: %v, %v", point, i, v, err)
			}
		}
		if saved != 19 {
			t.Errorf("%s: %d saved before the kill, want 19", point, saved)
		}
		sound(t, s)
	}
}

func BenchmarkCreate(b *testing.B) {
	s := openTest(b, filepath.Join(b.TempDir(), "db"))
	pets := NewTable[pet](s, "pet", 1, nil)
	i := 0
	for b.Loop() {
		i++
		if err := pets.Create("default", fmt.Sprint(i), pet{Name: strings.Repeat("x", 1000)}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkCreateParallel(b *testing.B) {
	s := openTest(b, filepath.Join(b.TempDir(), "db"))
	pets := NewTable[pet](s, "pet", 1, nil)
	var mu sync.Mutex
	i := 0
	b.SetParallelism(10)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			mu.Lock()
			i++
			key := fmt.Sprint(i)
			mu.Unlock()
			if err := pets.Create("default", key, pet{Name: strings.Repeat("x", 1000)}); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkGet(b *testing.B) {
	s := openTest(b, filepath.Join(b.TempDir(), "db"))
	pets := NewTable[pet](s, "pet", 1, nil)
	if err := pets.Create("default", "cat", pet{Name: strings.Repeat("x", 1000)}); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := pets.Get("default", "cat"); err != nil {
			b.Fatal(err)
		}
	}
}
