package scenario_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/minirt/mini/internal/testenv"
)

// beside is mininerd and docker with the same image, bb:1.
func beside(t *testing.T) (n, docker nerd) {
	t.Helper()
	testenv.Image(t, "busybox")
	r := testenv.Registry(t, testenv.RegistryOptions{})
	n = newNerd(t, testenv.Daemon(t, testenv.DaemonOptions{}))
	docker = nerd{t, "docker", []string{"--host", startDocker(t)}}
	archive := filepath.Join(testenv.Dir(t), "image.tar")
	n.do("pull", "-q", r.Ref("busybox"))
	n.do("tag", r.Ref("busybox"), "bb:1")
	n.do("save", "-o", archive, "bb:1")
	docker.do("load", "-i", archive)
	return n, docker
}

// in runs a command line in a directory.
func (n nerd) in(dir string, in io.Reader, args ...string) testenv.Output {
	n.t.Helper()
	back, err := os.Getwd()
	check(n.t, err)
	check(n.t, os.Chdir(dir))
	defer func() { check(n.t, os.Chdir(back)) }()
	return n.try(in, args...)
}

// listed is a tree with kinds, modes, owners, sizes and links, one line for each name.
func listed(t *testing.T, root string) string {
	t.Helper()
	var b strings.Builder
	check(t, filepath.WalkDir(root, func(name string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var stat unix.Stat_t
		if err := unix.Lstat(name, &stat); err != nil {
			return err
		}
		to, _ := os.Readlink(name)
		size := stat.Size
		if stat.Mode&unix.S_IFMT == unix.S_IFDIR {
			size = 0
		}
		_, err = fmt.Fprintf(&b, "%s %o %d:%d %d %s\n", strings.TrimPrefix(name, root), stat.Mode, stat.Uid, stat.Gid, size, to)
		return err
	}))
	return b.String()
}

// headers is what an archive has, one line for each entry.
func headers(t *testing.T, archive string) string {
	t.Helper()
	var b strings.Builder
	for in := tar.NewReader(strings.NewReader(archive)); ; {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			return b.String()
		}
		if err != nil {
			return b.String() + err.Error()
		}
		fmt.Fprintf(&b, "%c %s %s %o %d:%d %d\n", h.Typeflag, h.Name, h.Linkname, h.Mode&0o7777, h.Uid, h.Gid, h.Size)
	}
}

const filesScript = `mkdir -p /a/b /locked; echo hi > /a/f; ln -s /a/f /lf; ln -s a /ld; ln -s none /dangling; ln -s /a /a/b/up; ln /a/f /a/hard
mkfifo /a/p; chown 5:6 /a/f; chmod 4750 /a/f; echo ready; sleep 1000`

// cpLines are command lines of cp: with CC for the container. A second word says what both say of it.
func cpLines() [][2]string {
	return [][2]string{
		{"CC:/a new", ""}, {"CC:/a dir", ""}, {"CC:/a/. dir2", ""}, {"CC:/a/. newdot", ""}, {"CC:/a/f file", ""}, {"CC:/a/f newfile", ""}, {"CC:/a/f dir/", ""},
		{"CC:/ld linkcopy", ""}, {"CC:/ld/ linkdir", ""}, {"-L CC:/ld followed", ""}, {"-L CC:/lf dir", ""}, {"CC:/lf dir2", ""}, {"CC:/a/b/up/f up", ""},
		{"CC:/a/f lnew", ""}, {"CC:/a/f ldir", ""}, {"CC:/a/f lfile", ""}, {"CC:/a/p pipe", ""}, {"CC:/dangling dangling", ""}, {"-a CC:/a/b archived", ""},
		{"CC:/a -", ""}, {"CC:/a/. -", ""}, {"CC:/ld -", ""}, {"CC:/ld/ -", ""}, {"-L CC:/lf -", ""}, {"CC:/a/f -", ""}, {"CC:/a/.. -", ""},
		{"CC:/nope x", "ould not find the file /nope|o such container:path: CC:/nope"}, {"CC:/a file", "cannot copy directory"}, {"CC:/a/. file", "cannot copy directory"},
		{"CC:/a/f none/x", "invalid output path: directory"}, {"CC:/a/f none/", "no such directory"}, {"CC:/a/f/ x", "not a directory"}, {"CC:/a/f/. x", "not a directory"},
		{"CC:/a/f /dev/null", `invalid output path: "/dev/null" must be a directory or a regular file: got a device`},
		{"CC:/ none/", ""}, {"xx:/a y", "o such container:path: xx:/a|o such container: xx"}, {"CC:/a CC:/b", "copying between containers is not supported"},
		{"a b", "must specify at least one container source"}, {"CC: x", "cannot be empty"},
		{"file CC:/up", ""}, {"file CC:/a", ""}, {"-a file CC:/upa", ""}, {"file CC:/lf", ""}, {"file CC:/ld", ""}, {"file CC:/ld/viald", ""}, {"file CC:/a/b/", ""},
		{"src CC:/a", ""}, {"src CC:/newdir", ""}, {"src/. CC:/newdot", ""}, {"src/. CC:/a/b", ""}, {"src CC:/made/", ""}, {"lsrc CC:/lsrc", ""}, {"-L lsrc CC:/lsrcd", ""}, {"lfile CC:/lfile", ""},
		{"-L lfile CC:/", ""}, {"file CC:relative", ""},
		{"nothing CC:/x", "no such file or directory"}, {"file CC:/nodir/x", "ould not find the file /nodir|o such container:path: CC:/nodir"}, {"file CC:/nodir/", "no such directory"},
		{"src CC:/up", "cannot copy directory"}, {"src/. CC:/up", "cannot copy directory"}, {"file/ CC:/q", "not a directory"}, {"file CC:/up/", "no such directory"},
		{"src CC:/nodir/x", "ould not find the file /nodir|o such container:path: CC:/nodir"}, {"file xx:/y", "o such container:path: xx:/|o such container: xx"}, {"file CC:", "no such directory"},
		{"file CC:/etc/hosts", "device or resource busy"}, {"clash/. CC:/", "cannot overwrite"}, {"clash2/. CC:/", "cannot overwrite"},
		{"- CC:/up", "must be a directory"}, {"- CC:/none", "must be a directory"}, {"- CC:/locked", ""}, {"x", ""},
	}
}

// workDir is what cp finds on this machine.
func workDir(t *testing.T) string {
	t.Helper()
	dir := testenv.Dir(t)
	for _, d := range []string{"dir", "dir2", "src/sub", "clash/a", "clash2/up"} {
		check(t, os.MkdirAll(filepath.Join(dir, d), 0o755))
	}
	for name, text := range map[string]string{"file": "from here", "src/one": "1", "src/sub/.wh.two": "22", "clash/a/b": "no directory"} {
		check(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o640))
	}
	check(t, os.Chown(filepath.Join(dir, "file"), 1000, 1001))
	for link, to := range map[string]string{"lnew": "linked", "ldir": "dir2", "lfile": "file", "lsrc": "src", "src/out": "/etc/passwd"} {
		check(t, os.Symlink(to, filepath.Join(dir, link)))
	}
	return dir
}

// TestArchivesCopyIsLikeDocker gives the same command lines to docker, and compares codes, words, and the trees there are
// afterwards on both sides; for a container that runs, and one that does not.
func TestArchivesCopyIsLikeDocker(t *testing.T) {
	n, docker := beside(t)
	var upload bytes.Buffer
	out := tar.NewWriter(&upload)
	check(t, out.WriteHeader(&tar.Header{Name: "in/../deep/f", Mode: 0o600, Uid: 7, Size: 3, ModTime: time.Unix(5, 0)}))
	_, err := out.Write([]byte("tar"))
	check(t, errors.Join(err, out.Close()))
	for _, state := range []string{"running", "exited"} {
		t.Run(state, func(t *testing.T) {
			trees := map[string]string{}
			dirs := map[string]string{}
			for _, of := range []nerd{n, docker} {
				of.t = t
				of.do("run", "-d", "--name", state, "--network", "none", "bb:1", "sh", "-c", filesScript)
				testenv.Eventually(t, 20*time.Second, "the files are made", func() bool { return strings.Contains(of.try(nil, "logs", state).Stdout, "ready") })
				if state == "exited" {
					of.do("kill", state)
				}
				dirs[of.program] = workDir(t)
			}
			for i, line := range cpLines() {
				if state == "exited" && i%3 != 0 {
					continue // the rules are the same, only the files are found in another way
				}
				args := append([]string{"cp"}, strings.Fields(strings.ReplaceAll(line[0], "CC", state))...)
				want := docker.in(dirs[docker.program], bytes.NewReader(upload.Bytes()), args...)
				got := n.in(dirs[n.program], bytes.NewReader(upload.Bytes()), args...)
				if got.Code != want.Code {
					t.Errorf("%s: code %d, docker's %d\n%s%s", line[0], got.Code, want.Code, got.Stderr, want.Stderr)
				}
				if a, b := headers(t, got.Stdout), headers(t, want.Stdout); a != b && line[0] != "CC:/a/.. -" {
					t.Errorf("%s: the archive has\n%sdocker's:\n%s", line[0], a, b)
				}
				words := strings.Split(strings.ReplaceAll(line[1], "CC", state), "|") // docker's client has changed them
				for name, text := range map[string]string{"mininerd": got.Stderr, "docker": want.Stderr} {
					if !slices.ContainsFunc(words, func(w string) bool { return strings.Contains(text, w) }) {
						t.Errorf("%s: %s does not say %q:\n%s", line[0], name, words, text)
					}
				}
			}
			for _, of := range []nerd{n, docker} {
				trees[of.program] = listed(t, dirs[of.program])
				archive := filepath.Join(testenv.Dir(t), "export.tar")
				of.t = t
				of.do("export", "-o", archive, state)
				data, err := os.ReadFile(archive)
				check(t, err)
				var kept []string
				for _, l := range lines(headers(t, string(data))) {
					name := strings.Fields(l)[1]
					if top, _, _ := strings.Cut(name, "/"); !slices.Contains([]string{"proc", "sys", "dev", "etc", ".dockerenv", "bin"}, top) {
						kept = append(kept, l)
					}
				}
				trees[of.program] += strings.Join(kept, "\n")
			}
			differ(t, trees[n.program], trees[docker.program], func(line string) bool { return ofDaemon.MatchString(line) })
		})
	}
}

// ofDaemon are the files that each daemon has its own of in every container.
var ofDaemon = regexp.MustCompile(`^/none/(proc|sys|dev|\.dockerenv|etc/(hosts|hostname|resolv.conf|mtab))`)

// differ compares texts line by line, but for those that may be different.
func differ(t *testing.T, got, want string, mayDiffer func(string) bool) {
	t.Helper()
	a, b := slices.DeleteFunc(lines(got), mayDiffer), slices.DeleteFunc(lines(want), mayDiffer)
	for _, l := range a {
		if !slices.Contains(b, l) {
			t.Errorf("only here:       %s", l)
		}
	}
	for _, l := range b {
		if !slices.Contains(a, l) {
			t.Errorf("only of docker:  %s", l)
		}
	}
}
