package supervisor

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

// TestExternalKey looks at descriptors of this process: only a named pipe is one that criu has to be told of.
func TestExternalKey(t *testing.T) {
	name := filepath.Join(t.TempDir(), "fifo")
	if err := unix.Mkfifo(name, 0o600); err != nil {
		t.Fatal(err)
	}
	named, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer named.Close()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	var stat unix.Stat_t
	if err := unix.Stat(name, &stat); err != nil {
		t.Fatal(err)
	}
	key, err := externalKey(os.Getpid(), int(named.Fd()))
	var mount, inode uint64
	if n, scanErr := fmt.Sscanf(key, "file[%x:%x]", &mount, &inode); err != nil || n != 2 || mount == 0 || inode != stat.Ino {
		t.Errorf("a named pipe is %q, %v, %v", key, err, scanErr)
	}
	for what, fd := range map[string]int{"a pipe": int(r.Fd()), "a device": int(null.Fd()), "a closed one": 9999} {
		if key, err := externalKey(os.Getpid(), fd); err != nil || key != "" {
			t.Errorf("%s is %q, %v", what, key, err)
		}
	}
}

// TestReadOnce reads a file twice, and another one not at all.
func TestReadOnce(t *testing.T) {
	name := filepath.Join(t.TempDir(), "conf")
	for range 2 {
		done, err := readOnce(name, []byte("said once"))
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{"said once", ""} {
			if got, err := os.ReadFile(name); err != nil || string(got) != want {
				t.Errorf("read %q, %v, not %q", got, err, want)
			}
		}
		done()
	}
	done, err := readOnce(name, []byte("never read"))
	if err != nil {
		t.Fatal(err)
	}
	done()
}

func TestInherited(t *testing.T) {
	got := inheritLines([]string{"", "file[1:2]", "file[1:3]\nlibdir /tmp", "file[4:5]"})
	if want := []string{"inherit-fd fd[1]:file[1:2]"}; !slices.Equal(got, want) {
		t.Errorf("%q, not %q", got, want)
	}
	if got := inheritLines(nil); len(got) > 0 {
		t.Errorf("of nothing: %q", got)
	}
}

func TestMistake(t *testing.T) {
	for log, want := range map[string]string{
		"": "", "(00.1) fine\n": "", "Error (odd\n": "",
		"(00.1) Error (criu/tun.c:1): tun: Unable to create tun\n(00.1) Error (criu/util.c:642): exited, status=1\nError (criu/util.c:627): execvp(\"iptables-restore\", ...) failed: No such file or directory\n(00.2) Error (criu/cr-dump.c:2053): Dumping FAILED.\n": "execvp(\"iptables-restore\", ...) failed: No such file or directory: ",
	} {
		if got := mistake(log); got != want {
			t.Errorf("%q says %q, not %q", log, got, want)
		}
	}
}
