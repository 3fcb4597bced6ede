package vm

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/minirt/mini/internal/testenv"
)

// diskSize is room for the suite, its images and containers; the file is sparse.
const diskSize = "1536M"

// unit runs the tests of the systemd driver, under systemd.
const unit = `[Unit]
Description=the tests with systemd as the first process
DefaultDependencies=no
[Service]
Type=oneshot
ExecStart=/sbin/init
StandardOutput=tty
StandardError=tty
TTYPath=/dev/ttyS0
Delegate=yes
`

// disk makes the machine's disk: an ext4 filesystem in a file, which nobody has to mount.
func disk(t *testing.T, kernel string) string {
	t.Helper()
	dir := testenv.Dir(t)
	root := filepath.Join(dir, "root")
	for _, name := range []string{"proc", "sys", "dev", "run", "tmp", "root", "var/lib", "etc/systemd/system", "usr/bin", "usr/sbin", "mini/bin"} {
		if err := os.MkdirAll(filepath.Join(root, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	build(t, filepath.Join(root, "sbin/init"), "build", "-o", "", "./test/vm/init")
	build(t, filepath.Join(root, "mini/guest.test"), "test", "-c", "-o", "", "./test/vm/guest")
	build(t, filepath.Join(root, "mini/bridge.test"), "test", "-c", "-o", "", "./runtime/network/bridge")
	build(t, filepath.Join(root, "mini/devmapper.test"), "test", "-c", "-o", "", "./runtime/snapshot/devmapper")
	build(t, filepath.Join(root, "mini/erofs.test"), "test", "-c", "-o", "", "./runtime/snapshot/erofs")
	for _, name := range []string{"minid", "minid-supervisor", "minictr", "mininerd"} {
		path := testenv.Binary(t, name)
		install(t, path, filepath.Join(root, "mini/bin", name))
		libraries(t, path, root)
	}
	// criu executes those that follow it; iptables loads its matches.
	for _, program := range []string{
		"/lib/systemd/systemd", "/usr/bin/systemd-run", "/sbin/apparmor_parser", "/usr/sbin/criu", "/usr/bin/crun", "/bin/ip", "/usr/sbin/iptables-restore", "/usr/sbin/ip6tables-restore",
		"/usr/sbin/dmsetup", "/usr/bin/mkfs.erofs", "/sbin/mkfs.ext4", "/sbin/resize2fs", "/sbin/losetup",
		"/bin/tar", "/bin/gzip", "/bin/sh", "/usr/lib/x86_64-linux-gnu/xtables/libxt_mark.so", "/usr/lib/x86_64-linux-gnu/xtables/libxt_standard.so",
	} {
		if _, err := os.Stat(program); err == nil { // what needs it is skipped there
			install(t, program, filepath.Join(root, program))
			libraries(t, program, root)
		}
	}
	modules, err := filepath.Glob(filepath.Join(filepath.Dir(kernel), "modules/*.ko"))
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range modules {
		install(t, m, filepath.Join(root, "modules", filepath.Base(m)))
	}
	policy(t, filepath.Join(root, "etc/selinux"))
	write(t, filepath.Join(root, "mini/go.mod"), "module vm\n") // testenv looks for bin beside it
	write(t, filepath.Join(root, "etc/passwd"), "root:x:0:0:root:/root:/bin/sh\n")
	write(t, filepath.Join(root, "etc/group"), "root:x:0:\n")
	write(t, filepath.Join(root, "etc/machine-id"), strings.Repeat("0123456789abcdef", 2)+"\n")
	write(t, filepath.Join(root, "etc/systemd/system/mini.service"), unit)
	image := filepath.Join(dir, "disk")
	testenv.Run(t, "mke2fs", "-q", "-t", "ext4", "-E", "root_owner=0:0", "-d", root, image, diskSize)
	return image
}

// policy makes SELinux's files; init loads the policy where the kernel is started with it.
func policy(t *testing.T, dir string) {
	t.Helper()
	checkpolicy, err := exec.LookPath("checkpolicy")
	if err != nil {
		return // the test that wants it says so
	}
	text, err := os.ReadFile("testdata/policy.conf")
	if err != nil {
		t.Fatal(err)
	}
	var categories strings.Builder
	for i := 1; i < 1024; i++ {
		fmt.Fprintf(&categories, "category c%d;\n", i)
	}
	source := filepath.Join(testenv.Dir(t), "policy.conf")
	write(t, source, strings.Replace(string(text), "CATEGORIES", categories.String(), 1))
	if err := os.MkdirAll(filepath.Join(dir, "mini/contexts"), 0o755); err != nil {
		t.Fatal(err)
	}
	testenv.Run(t, checkpolicy, "-M", "-U", "allow", "-c", "33", "-o", filepath.Join(dir, "mini/policy"), source)
	write(t, filepath.Join(dir, "config"), "SELINUX=enforcing\nSELINUXTYPE=mini\n")
	write(t, filepath.Join(dir, "mini/contexts/lxc_contexts"), "process = \"system_u:system_r:container_t:s0\"\nfile = \"system_u:object_r:container_file_t:s0\"\nro_file = \"system_u:object_r:container_file_t:s0\"\n")
}

// build runs the go command for a static program; the argument after -o is its file.
func build(t *testing.T, file string, args ...string) {
	t.Helper()
	for i, arg := range args {
		if arg == "" && args[i-1] == "-o" {
			args[i] = file
		}
	}
	cmd := exec.CommandContext(t.Context(), "go", args...)
	cmd.Dir = testenv.Repository(t)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// libraries installs the shared libraries of a program at their places.
func libraries(t *testing.T, program, root string) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "ldd", program).Output()
	if err != nil {
		return // a static one has none
	}
	for line := range strings.Lines(string(out)) {
		for _, field := range strings.Fields(line) {
			if strings.HasPrefix(field, "/") {
				install(t, field, filepath.Join(root, field))
			}
		}
	}
}

func install(t *testing.T, from, to string) {
	t.Helper()
	if _, err := os.Stat(to); err == nil {
		return
	}
	err := os.MkdirAll(filepath.Dir(to), 0o755)
	if err == nil {
		err = copyFile(from, to)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o755)
	if err != nil {
		return err
	}
	if _, err := io.Copy(out, in); err != nil {
		return fmt.Errorf("%s: %w", to, err)
	}
	return out.Close()
}

func write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}
