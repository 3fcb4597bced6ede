//go:build cgo && seccomp

package confine

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
	"unsafe"

	profiles "github.com/moby/profiles/seccomp"
	"github.com/opencontainers/runc/libcontainer/configs"
	"github.com/opencontainers/runc/libcontainer/seccomp"
	"github.com/opencontainers/runc/libcontainer/specconv"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/minirt/mini/internal/testenv"
)

// act is the environment variable that makes this test's program the child of a test.
const act = "CONFINE_TEST_ACT"

func TestMain(m *testing.M) {
	var err error
	switch {
	case len(os.Args) > 1 && os.Args[1] == "seccomp-compile": // the child of compiled
		err = Compile(os.Stdin, os.Stdout)
	case os.Getenv(act) == "confine":
		err = confineSelf()
	default:
		os.Exit(m.Run())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// confineSelf does what libcontainer's init does: it puts the filter of the profile in force. Then it tells its thread
// and how long that took, and waits.
func confineSelf() error {
	runtime.LockOSThread()
	var profile configs.Seccomp
	if err := json.NewDecoder(os.Stdin).Decode(&profile); err != nil {
		return err
	}
	if err := Arm(); err != nil {
		return err
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	began := time.Now()
	if _, err := seccomp.InitSeccomp(&profile); err != nil {
		return err
	}
	fmt.Printf("%d %d\n", unix.Gettid(), time.Since(began).Microseconds())
	for {
		unix.Pause()
	}
}

// confined runs confineSelf, with file as the remembered filter if not nil, and returns what is in force.
func confined(t testing.TB, profile *configs.Seccomp, file *os.File) (filter []unix.SockFilter, flags uint64, took time.Duration) {
	t.Helper()
	stdin, err := json.Marshal(profile)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second) // a wrong filter may keep it from telling anything
	defer cancel()
	child := exec.CommandContext(ctx, "/proc/self/exe")
	child.Env = []string{act + "=confine", "GOMAXPROCS=1"}
	child.Stdin, child.Stderr = bytes.NewReader(stdin), os.Stderr
	if file != nil {
		child.ExtraFiles = []*os.File{file}
	}
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		child.Process.Kill()
		child.Wait()
	}()
	var tid int
	var us int64
	if _, err := fmt.Fscan(out, &tid, &us); err != nil {
		t.Fatal(err)
	}
	filter, flags = inForce(t, tid)
	return filter, flags, time.Duration(us) * time.Microsecond
}

// inForce reads a thread's only filter and its flags (ptrace(2), PTRACE_SECCOMP_GET_FILTER and _METADATA).
func inForce(t testing.TB, tid int) ([]unix.SockFilter, uint64) {
	t.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := unix.PtraceAttach(tid); err != nil {
		t.Fatal(err)
	}
	defer unix.PtraceDetach(tid)
	if _, err := unix.Wait4(tid, nil, unix.WALL, nil); err != nil {
		t.Fatal(err)
	}
	filter := make([]unix.SockFilter, maxLength)
	n, _, errno := unix.Syscall6(unix.SYS_PTRACE, unix.PTRACE_SECCOMP_GET_FILTER, uintptr(tid), 0, uintptr(unsafe.Pointer(&filter[0])), 0, 0)
	if errno != 0 {
		t.Skipf("this kernel does not give filters away: %v", errno)
	}
	var meta struct{ off, flags uint64 }
	_, _, errno = unix.Syscall6(unix.SYS_PTRACE, unix.PTRACE_SECCOMP_GET_METADATA, uintptr(tid), unsafe.Sizeof(meta), uintptr(unsafe.Pointer(&meta)), 0, 0)
	if errno != 0 {
		t.Fatal(errno)
	}
	_, _, errno = unix.Syscall6(unix.SYS_PTRACE, unix.PTRACE_SECCOMP_GET_FILTER, uintptr(tid), 1, 0, 0, 0)
	if errno != unix.ENOENT {
		t.Errorf("a second filter: %v", errno)
	}
	return filter[:n], meta.flags
}

func dockerProfile(t testing.TB, change func(*specs.LinuxSeccomp)) *configs.Seccomp {
	t.Helper()
	s, err := profiles.GetDefaultProfile(&specs.Spec{Process: &specs.Process{Capabilities: &specs.LinuxCapabilities{}}})
	if err != nil {
		t.Fatal(err)
	}
	if change != nil {
		change(s)
	}
	profile, err := specconv.SetupSeccomp(s)
	if err != nil {
		t.Fatal(err)
	}
	return profile
}

func remembered(t testing.TB, profile *configs.Seccomp) []byte {
	t.Helper()
	data, err := json.Marshal(profile)
	if err != nil {
		t.Fatal(err)
	}
	one, err := compiled(data)
	if err != nil {
		t.Fatal(err)
	}
	defer one.close()
	content, err := io.ReadAll(io.NewSectionReader(one.file, 0, 1<<30))
	if err != nil {
		t.Fatal(err)
	}
	return content
}

func sealedFile(t testing.TB, content []byte) *os.File {
	t.Helper()
	f, err := seal(content)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// same compares filters. libcontainer's ENOSYS stub orders its tests of architectures by chance, so it is tried again.
func same(t testing.TB, want []unix.SockFilter, wantFlags uint64, get func() ([]unix.SockFilter, uint64)) {
	t.Helper()
	var got []unix.SockFilter
	for range 200 { // six orders and more, some of them rare
		var flags uint64
		if got, flags = get(); flags != wantFlags {
			t.Fatalf("flags %d, want %d", flags, wantFlags)
		}
		if slices.Equal(got, want) {
			return
		}
	}
	t.Fatalf("filters of %d and %d instructions are never the same", len(got), len(want))
}

func TestFilterIsLibseccomps(t *testing.T) {
	testenv.Root(t)
	one := uint(38)
	for name, profile := range map[string]*configs.Seccomp{
		"docker":          dockerProfile(t, nil),
		"docker, logging": dockerProfile(t, func(s *specs.LinuxSeccomp) { s.Flags = []specs.LinuxSeccompFlag{specs.LinuxSeccompFlagLog} }),
		"no rules":        {DefaultAction: configs.Allow},
		"arguments": {DefaultAction: configs.Allow, Syscalls: []*configs.Syscall{
			{Name: "mkdir", Action: configs.Errno, ErrnoRet: &one},
			{Name: "personality", Action: configs.Errno, Args: []*configs.Arg{{Index: 0, Value: 8, Op: configs.MaskEqualTo, ValueTwo: 8}}},
			{Name: "kill", Action: configs.KillProcess, Args: []*configs.Arg{{Index: 1, Value: 3, Op: configs.GreaterThan}, {Index: 1, Value: 1, Op: configs.EqualTo}}},
			{Name: "no_such_call", Action: configs.Errno},
		}},
	} {
		t.Run(name, func(t *testing.T) {
			want, flags, _ := confined(t, profile, nil)
			file := sealedFile(t, remembered(t, profile))
			same(t, want, flags, func() ([]unix.SockFilter, uint64) {
				got, flags, _ := confined(t, profile, file)
				return got, flags
			})
		})
	}
}

// TestFilterIsTheRemembered shows that the file is used at all: one with another program, of the same calls.
func TestFilterIsTheRemembered(t *testing.T) {
	testenv.Root(t)
	profile := dockerProfile(t, nil)
	calls, program, err := parse(remembered(t, profile))
	if err != nil {
		t.Fatal(err)
	}
	allow := binary.LittleEndian.AppendUint32([]byte{unix.BPF_RET | unix.BPF_K, 0, 0, 0}, 0x7fff0000)
	got, _, _ := confined(t, profile, sealedFile(t, format(calls, allow)))
	if len(got) >= len(program)/instruction {
		t.Errorf("%d instructions are in force, 1 was remembered, the real filter has %d", len(got), len(program)/instruction)
	}
}

// TestOtherCallsAreCompiled gives a process the file of another profile, whose program would allow everything.
// The final program is what the kernel has of a process that libcontainer has confined.
func TestFinalIsInForce(t *testing.T) {
	testenv.Root(t)
	for name, profile := range map[string]*configs.Seccomp{
		"docker": dockerProfile(t, nil),
		"log":    dockerProfile(t, func(s *specs.LinuxSeccomp) { s.Flags = []specs.LinuxSeccompFlag{specs.LinuxSeccompFlagLog} }),
		"none":   dockerProfile(t, func(s *specs.LinuxSeccomp) { s.Flags = []specs.LinuxSeccompFlag{} }),
	} {
		t.Run(name, func(t *testing.T) {
			data, err := json.Marshal(profile)
			if err != nil {
				t.Fatal(err)
			}
			want, flags, _ := confined(t, profile, nil)
			// The kernel tells of its flags only SECCOMP_FILTER_FLAG_LOG (ptrace(2), PTRACE_SECCOMP_GET_METADATA).
			same(t, want, flags, func() ([]unix.SockFilter, uint64) {
				one, err := compiled(data)
				if err != nil {
					t.Fatal(err)
				}
				defer one.close()
				var got []unix.SockFilter
				for p := one.final.program; len(p) >= instruction; p = p[instruction:] {
					got = append(got, unix.SockFilter{
						Code: binary.NativeEndian.Uint16(p), Jt: p[2], Jf: p[3], K: binary.NativeEndian.Uint32(p[4:]),
					})
				}
				return got, uint64(one.final.flags) & unix.SECCOMP_FILTER_FLAG_LOG
			})
		})
	}
}

func FuzzCutFinal(f *testing.F) {
	f.Add(final{program: make([]byte, 2*instruction), flags: 4}.after([]byte("file")))
	f.Add(final{}.after(nil))
	f.Fuzz(func(t *testing.T, data []byte) {
		file, last, err := cutFinal(data)
		if err == nil && !bytes.Equal(last.after(slices.Clone(file)), data) {
			t.Errorf("%q is read and written otherwise", data)
		}
	})
}

func TestOtherCallsAreCompiled(t *testing.T) {
	testenv.Root(t)
	calls, _, err := parse(remembered(t, dockerProfile(t, nil)))
	if err != nil {
		t.Fatal(err)
	}
	allow := binary.LittleEndian.AppendUint32([]byte{unix.BPF_RET | unix.BPF_K, 0, 0, 0}, 0x7fff0000)
	file := sealedFile(t, format(calls, allow))
	for name, change := range map[string]func(*configs.Seccomp){
		"a rule less": func(s *configs.Seccomp) { s.Syscalls = s.Syscalls[:len(s.Syscalls)-1] },
		"a rule more": func(s *configs.Seccomp) {
			s.Syscalls = append(s.Syscalls, &configs.Syscall{Name: "mount", Action: configs.Log})
		},
		"another action":  func(s *configs.Seccomp) { s.Syscalls[len(s.Syscalls)-1].Action = configs.Log },
		"another default": func(s *configs.Seccomp) { s.DefaultAction = configs.KillThread },
		"no architecture": func(s *configs.Seccomp) { s.Architectures = nil },
	} {
		t.Run(name, func(t *testing.T) {
			profile := dockerProfile(t, nil)
			change(profile)
			want, flags, _ := confined(t, profile, nil)
			same(t, want, flags, func() ([]unix.SockFilter, uint64) {
				got, flags, _ := confined(t, profile, file)
				return got, flags
			})
		})
	}
}

func TestOnlySealedFilesAreTaken(t *testing.T) {
	testenv.Root(t)
	profile := dockerProfile(t, nil)
	want, flags, _ := confined(t, profile, nil)
	open, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer open.Close()
	calls, _, _ := parse(remembered(t, profile))
	open.Write(format(calls, []byte{6, 0, 0, 0, 0, 0, 0xff, 0x7f}))
	same(t, want, flags, func() ([]unix.SockFilter, uint64) {
		got, flags, _ := confined(t, profile, open)
		return got, flags
	})
}

// TestFilters: nothing at first sight, the file when it is compiled, nothing again for what cannot be compiled.
func TestFilters(t *testing.T) {
	finished := make(chan struct{}, 10)
	f := &Filters{Log: slog.New(slog.DiscardHandler), Run: func(child func()) { child(); finished <- struct{}{} }}
	profile := dockerProfile(t, nil)
	if file := f.Get(profile); file != nil {
		t.Error("a file at first sight")
	}
	<-finished
	for range 2 { // the caller's is a duplicate: closing it changes nothing
		file := f.Get(profile)
		if file == nil {
			t.Fatal("no file")
		}
		if !sealed(file.Fd()) {
			t.Error("not sealed")
		}
		file.Close()
	}
	bad := &configs.Seccomp{DefaultAction: 99}
	for range 2 {
		if file := f.Get(bad); file != nil {
			t.Error("a file of a bad profile")
		}
	}
	<-finished
	if file := f.Get(bad); file != nil {
		t.Error("a file of a bad profile")
	}
	if f.Get(nil) != nil {
		t.Error("a file of no profile")
	}
	for i := range 2 * maxProfiles {
		f.Get(&configs.Seccomp{DefaultAction: 99, ListenerMetadata: fmt.Sprint(i)})
		<-finished
	}
	if n := len(f.known); n > maxProfiles {
		t.Errorf("%d profiles are remembered", n)
	}
}

// TestKnownFunctions: a function of libseccomp that the binding begins to call might see a filter without the rules
// that are held back. It is to be wrapped, or shown to be harmless, before it stands here.
func TestKnownFunctions(t *testing.T) {
	harmless := []string{
		"arch_exist", "arch_native", "attr_get", "syscall_resolve_name", "syscall_resolve_name_arch", "syscall_resolve_num_arch",
		"version", "api_get", "api_set", "notify_alloc", "notify_free", "notify_receive", "notify_respond", "notify_id_valid", "notify_fd",
	}
	list := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/seccomp/libseccomp-golang")
	out, err := list.Output()
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(strings.TrimSpace(string(out)), "*.[gch]"))
	goFiles, _ := filepath.Glob(filepath.Join(strings.TrimSpace(string(out)), "*.go"))
	if files = append(files, goFiles...); err != nil || len(goFiles) == 0 {
		t.Fatal(files, err)
	}
	own, err := os.ReadFile("replay_linux.go")
	if err != nil {
		t.Fatal(err)
	}
	call := regexp.MustCompile(`C\.seccomp_(\w+)|^\s*(?:return |rc = )seccomp_(\w+)\(`)
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		source, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range call.FindAllSubmatch(source, -1) {
			name := string(m[1]) + string(m[2])
			if !slices.Contains(harmless, name) && !bytes.Contains(own, []byte("--wrap=seccomp_"+name+" ")) && !bytes.Contains(own, []byte("--wrap=seccomp_"+name+"\n")) {
				t.Errorf("%s calls seccomp_%s, which is not known here", filepath.Base(file), name)
			}
		}
	}
}

func TestParse(t *testing.T) {
	good := format([]byte("calls"), make([]byte, 2*instruction))
	if calls, program, err := parse(good); err != nil || string(calls) != "calls" || len(program) != 2*instruction {
		t.Errorf("%q %d %v", calls, len(program), err)
	}
	for name, data := range map[string][]byte{
		"empty": nil, "magic": []byte(magic), "no calls": format(nil, make([]byte, instruction)), "no program": format([]byte("calls"), nil),
		"half an instruction": good[:len(good)-1], "long": format([]byte("calls"), make([]byte, (maxLength+1)*instruction)),
		"other magic": append([]byte("x"), good...), "length": append([]byte(magic), 0xff, 0xff, 0xff, 0xff, 1),
	} {
		if _, _, err := parse(data); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(format([]byte("calls"), make([]byte, instruction)))
	f.Add([]byte(magic))
	f.Fuzz(func(t *testing.T, data []byte) {
		calls, program, err := parse(data)
		if err == nil && !bytes.Equal(format(calls, program), data) {
			t.Errorf("%q: parts %q and %q", data, calls, program)
		}
	})
}

func TestCompileTellsWhy(t *testing.T) {
	for _, text := range []string{"", "{", `{"default_action": 99}`} {
		cmd := exec.Command("/proc/self/exe", "seccomp-compile")
		cmd.Stdin = strings.NewReader(text)
		var exit *exec.ExitError
		if _, err := cmd.Output(); !errors.As(err, &exit) || len(exit.Stderr) == 0 {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// BenchmarkInitSeccomp measures libcontainer's part, in a process of its own each time.
func BenchmarkInitSeccomp(b *testing.B) {
	testenv.Root(b)
	profile := dockerProfile(b, nil)
	for name, file := range map[string]*os.File{"compiled": nil, "remembered": sealedFile(b, remembered(b, profile))} {
		b.Run(name, func(b *testing.B) {
			var all []time.Duration
			for range b.N {
				_, _, took := confined(b, profile, file)
				all = append(all, took)
			}
			slices.Sort(all)
			b.ReportMetric(float64(all[len(all)/2].Microseconds()), "median-µs")
		})
	}
}
