package scenario_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/containerd/console"

	"github.com/minirt/mini/internal/testenv"
)

// alone runs minictr where there is no daemon.
func alone(t *testing.T, args ...string) testenv.Output {
	t.Helper()
	nowhere := &testenv.DaemonProcess{Address: filepath.Join(testenv.Dir(t), "no.sock")}
	return call{}.run(t, nowhere, args...)
}

// TestHelp prints help for every command, without a daemon.
func TestHelp(t *testing.T) {
	top := alone(t, "--help")
	if top.Code != 0 || !strings.Contains(top.Stdout, "GLOBAL OPTIONS") || !strings.Contains(top.Stdout, "MINID_ADDRESS") {
		t.Errorf("--help: code %d:\n%s%s", top.Code, top.Stdout, top.Stderr)
	}
	verbs := regexp.MustCompile(`(?m)^   ([a-z-]+)(?:, [a-z, -]+)?  +\S`)
	var walk func(path []string, help string)
	n := 0
	walk = func(path []string, help string) {
		_, commands, ok := strings.Cut(help, "COMMANDS:\n")
		if !ok {
			return
		}
		commands, _, _ = strings.Cut(commands, "OPTIONS:")
		for _, m := range verbs.FindAllStringSubmatch(commands, -1) {
			if m[1] == "help" {
				continue
			}
			n++
			below := append(append([]string{}, path...), m[1])
			o := alone(t, append(below, "--help")...)
			if o.Code != 0 || !strings.Contains(o.Stdout, "minictr "+strings.Join(below, " ")) {
				t.Errorf("%v --help: code %d:\n%s%s", below, o.Code, o.Stdout, o.Stderr)
			}
			walk(below, o.Stdout)
		}
	}
	walk(nil, top.Stdout)
	if n < 90 {
		t.Errorf("only %d commands were found", n)
	}
}

// TestWrongCommandLines wants one line that helps, on the standard error, and code 1.
func TestWrongCommandLines(t *testing.T) {
	for _, test := range []struct{ args, want string }{
		{"imags ls", `there is no command "imags": did you mean images?: see minictr --help`},
		{"images pul x", `there is no command "pul": did you mean pull?: see minictr images --help`},
		{"frobnicate", `there is no command "frobnicate": see minictr --help`},
		{"images pull --plain-htp x", "there is no flag --plain-htp: did you mean --plain-http?: see minictr images pull --help"},
		{"--nonsense images ls", "there is no flag --nonsense: see minictr --help"},
		{"images pull", "too few arguments: usage: minictr images pull IMAGE"},
		{"images pull a b", "too many arguments: usage: minictr images pull IMAGE"},
		{"images pull --max-concurrent-downloads many x", `invalid value "many"`},
		{"images ls", "start it with `minid` or pass --address"},
		{"completion tcsh", `no completion for "tcsh": use one of bash, fish, zsh`},
	} {
		o := alone(t, strings.Fields(test.args)...)
		if o.Code != 1 || o.Stdout != "" || len(lines(o.Stderr)) != 1 || !strings.Contains(o.Stderr, test.want) {
			t.Errorf("%s: code %d, stdout %q, stderr %q", test.args, o.Code, o.Stdout, o.Stderr)
		}
	}
	refused(t, call{}.run(t, &testenv.DaemonProcess{Address: "/etc/passwd"}, "images", "ls"), "nobody listens at /etc/passwd")
}

// TestCompletion completes in a real bash.
func TestCompletion(t *testing.T) {
	script := alone(t, "completion", "bash").Stdout
	bin := filepath.Dir(testenv.Binary(t, "minictr"))
	complete := func(words string) string {
		t.Helper()
		ask := "PATH=" + bin + ":$PATH\n" + script + "\nCOMP_WORDS=(" + words + ")\nCOMP_CWORD=$((${#COMP_WORDS[@]} - 1))\n_minictr\necho ${COMPREPLY[@]}"
		return strings.TrimSpace(testenv.Run(t, "bash", "-c", ask))
	}
	for words, want := range map[string]string{
		"minictr imag":                      "images image",
		"minictr images pu":                 "pull push",
		"minictr images pull --pla":         "--plain-http --platform",
		"minictr completion ''":             "bash fish zsh",
		"minictr -n test names":             "namespaces namespace",
		"minictr containers rm -- x ''":     "",
		"minictr containers rm -- --force ": "",
	} {
		if got := complete(words); got != want {
			t.Errorf("%s: completed with %q, want %q", words, got, want)
		}
	}
}

// TestCompletionElsewhere completes in a real fish and a real zsh, the latter on a terminal, for each of the programs.
func TestCompletionElsewhere(t *testing.T) {
	testenv.Need(t, "fish", "zsh")
	bin := filepath.Dir(testenv.Binary(t, "minictr"))
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	t.Chdir(testenv.Dir(t)) // both shells offer files too
	asked := filepath.Join(t.TempDir(), "ask.zsh")
	if err := os.WriteFile(asked, []byte(zshAsk), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct{ program, words, fish, zsh string }{
		{"minictr", "images pul", "pull", "images pull"},
		{"minictr", "images pull --plat", "--platform", "images pull --platform"},
		{"mininerd", "network cre", "create", "network create"},
		{"mininerd", "run --cap-a", "--cap-add", "run --cap-add"},
		{"mininerd", "container attac", "attach", "container attach"},
		{"minicrictl", "stop", "stop\nstopp", "stop"},
		{"minicrictl", "runtime-c", "runtime-config", "runtime-config"},
	} {
		line := row.program + " " + row.words
		got := strings.TrimSpace(testenv.Run(t, "fish", "--no-config", "-c", row.program+" completion fish | source; complete -C '"+line+"'"))
		if got != row.fish {
			t.Errorf("%s: fish offers %q, not %q", line, got, row.fish)
		}
		if out := testenv.Run(t, "zsh", "-f", asked, row.program, line); !strings.Contains(out, row.program+" "+row.zsh) {
			t.Errorf("%s: zsh has made of it %q, not %q", line, out, row.zsh)
		}
	}
}

// zshAsk types a line and a tab into a zsh on a terminal, and prints what is there then.
const zshAsk = `zmodload zsh/zpty
zpty z 'zsh -f -i'
zpty -w z "unsetopt zle_bracketed_paste; unset zle_bracketed_paste; PROMPT=; autoload -Uz compinit; compinit -u -D; source <($1 completion zsh); bindkey '^I' complete-word; print REA''DY"
zpty -r -m z out '*READY*'
zpty -w -n z "$2"$'\t'
for n in {1..40}; do
	sleep 0.05
	while zpty -r -t z line; do all+=$line; n=1; done
	[[ -n $all && $n -gt 10 ]] && break
done
print -r -- ${${all//$'\b'/}//$'\e'\[[0-9;?]#[a-zA-Z]/}
zpty -d z
`

func TestManual(t *testing.T) {
	page := alone(t, "man").Stdout
	for _, want := range []string{`.TH "MINICTR" 8`, `.SS "minictr images pull`, `\-\-hosts\-dir`, `.SS "minictr run`} {
		if !strings.Contains(page, want) {
			t.Errorf("no %q in the manual page", want)
		}
	}
}

// TestGlobalFlags tries --debug, --timeout, versions and the environment.
func TestGlobalFlags(t *testing.T) {
	d := testenv.Daemon(t, testenv.DaemonOptions{})
	o := d.Try("--debug", "images", "ls")
	if !regexp.MustCompile(`(?m)^debug: \S+ minid\.v1\.Images/List \S+: ok$`).MatchString(o.Stderr) || strings.Contains(o.Stdout, "debug") {
		t.Errorf("--debug: %q %q", o.Stdout, o.Stderr)
	}
	if o := d.Try("--debug", "images", "rm", "nothing"); !strings.Contains(o.Stderr, "Images/Delete") || !strings.Contains(o.Stderr, "not in namespace") {
		t.Errorf("--debug of a failure: %q", o.Stderr)
	}
	began := time.Now()
	refused(t, d.Try("--timeout", "300ms", "run", "--rm", toolbox, "long", "sleep", "600"), "not done after 300ms")
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("--timeout 300ms took %s", took)
	}
	d.Minictr("containers", "rm", "-f", "long")
	if v := d.Minictr("version"); !strings.Contains(v, "Client:") || !strings.Contains(v, "Server:") {
		t.Errorf("version: %s", v)
	}
	info := decode[struct{ Name, Root, UUID string }](t, d.Minictr("info"))
	if info.Name != d.Name || info.Root != d.Root || len(info.UUID) != 36 {
		t.Errorf("info: %+v", info)
	}
	if o := (call{env: []string{"MINID_ADDRESS=" + d.Address}}).bare(t, "info"); !strings.Contains(o.Stdout, d.Name) {
		t.Errorf("the address of the environment: %s", o.Stderr)
	}
	refused(t, d.Try("images", "ls", "-o", "yaml"), "table or json")
	if spec := decode[struct {
		OCIVersion string
		Process    struct{ Args []string }
	}](t, d.Minictr("oci", "spec")); spec.OCIVersion == "" || len(spec.Process.Args) == 0 {
		t.Errorf("oci spec: %+v", spec)
	}
}

// TestEvents follows the events of a pull and a removal, as JSON and as lines.
func TestEvents(t *testing.T) {
	i := testenv.Image(t, "busybox")
	r := testenv.Registry(t, testenv.RegistryOptions{})
	d := testenv.Daemon(t, testenv.DaemonOptions{})
	follow := begin(t, d, "events", "-o", "json", "type==image")
	testenv.Eventually(t, 10*time.Second, "the subscription is there", func() bool {
		d.Minictr("images", "pull", "-q", r.Ref("busybox"))
		return strings.Contains(follow.said(), `"pull"`)
	})
	d.Minictr("images", "rm", r.Ref("busybox"))
	testenv.Eventually(t, 5*time.Second, "the removal is told", func() bool { return strings.Contains(follow.said(), `"delete"`) })
	if err := follow.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if err := follow.Wait(); err != nil {
		t.Errorf("after an interrupt: %v", err)
	}
	type event struct {
		Time                        int64
		Namespace, Type, Action, ID string
		Attributes                  map[string]string
	}
	last := event{}
	for _, line := range lines(follow.said()) {
		last = decode[event](t, line)
		if last.Type != "image" || last.ID != r.Ref("busybox") || last.Namespace != "default" || last.Time == 0 {
			t.Errorf("event %+v", last)
		}
	}
	if last.Action != "delete" || last.Attributes["digest"] != i.Digest {
		t.Errorf("the last event is %+v", last)
	}
	past := d.Try("--timeout", "500ms", "events", "--since", "1m", "action==delete")
	if !regexp.MustCompile(`^\S+T\S+ default image delete ` + regexp.QuoteMeta(r.Ref("busybox")) + ` digest=sha256:`).MatchString(past.Stdout) {
		t.Errorf("events of the past: %q %s", past.Stdout, past.Stderr)
	}
}

// TestProfiles fetches profiles of a daemon that serves them, and is told by one that does not.
func TestProfiles(t *testing.T) {
	refused(t, testenv.Daemon(t, testenv.DaemonOptions{}).Try("pprof", "heap"), "pprof = true in [debug]")
	d := testenv.Daemon(t, testenv.DaemonOptions{Config: "[debug]\npprof = true"})
	if text := d.Minictr("pprof", "goroutines"); !strings.Contains(text, "goroutine ") {
		t.Errorf("goroutines: %.200s", text)
	}
	for _, args := range [][]string{{"heap"}, {"block"}, {"threadcreate"}, {"profile", "-s", "1"}} {
		if data := d.Minictr(append([]string{"pprof", "-d", filepath.Join(d.State, "debug.sock")}, args...)...); !strings.HasPrefix(data, "\x1f\x8b") {
			t.Errorf("%v is no profile: %.40q", args, data)
		}
	}
	if data := d.Minictr("pprof", "trace", "-s", "1"); !strings.HasPrefix(data, "go 1.") {
		t.Errorf("trace: %.40q", data)
	}
}

// TestProgress looks at a pull's progress in a pipe and on a terminal.
func TestProgress(t *testing.T) {
	i := testenv.Image(t, "nginx")
	short := manifestOf(t, i).Layers[1].Digest.Encoded()[:12]
	r := testenv.Registry(t, testenv.RegistryOptions{})
	d := testenv.Daemon(t, testenv.DaemonOptions{})
	plain := d.Try("images", "pull", r.Ref("nginx"))
	if !regexp.MustCompile(`(?m)^layer ` + short + `: fetching 4\.\d+MiB$`).MatchString(plain.Stderr) {
		t.Errorf("plain progress:\n%s", plain.Stderr)
	}
	if strings.ContainsAny(plain.Stderr, "\x1b\r") || !strings.Contains(plain.Stderr, "elapsed: ") || plain.Stdout != i.Digest+"\n" {
		t.Errorf("plain progress has more than lines: %q %q", plain.Stdout, plain.Stderr)
	}
	if quiet := d.Try("images", "pull", "-q", r.Ref("nginx")); quiet.Stderr != "" {
		t.Errorf("quiet: %q", quiet.Stderr)
	}
	d.Minictr("images", "rm", "--sync", r.Ref("nginx"))

	shown := onTerminal(t, 60, func(slave *os.File) {
		cmd := exec.CommandContext(t.Context(), testenv.Binary(t, "minictr"), "--address", d.Address, "images", "pull", r.Ref("nginx"))
		cmd.Stderr = slave
		if err := cmd.Run(); err != nil {
			t.Errorf("pull on a terminal: %v", err)
		}
	})
	if !regexp.MustCompile(`layer `+short+` +\w+ +\|?\+*-*\|? *`).MatchString(shown) || !strings.Contains(shown, "\x1b[2K") {
		t.Errorf("no bars on a terminal:\n%q", shown)
	}
	for line := range strings.SplitSeq(shown, "\x1b[2K") {
		if text, _, _ := strings.Cut(line, "\r\n"); len(text) > 60 {
			t.Errorf("a line of %d characters on a terminal of 60: %q", len(text), text)
		}
	}
}

// onTerminal gives what is shown on a terminal of this width.
func onTerminal(t *testing.T, width uint16, do func(slave *os.File)) string {
	t.Helper()
	master, name, err := console.NewPty()
	if err != nil {
		t.Fatal(err)
	}
	defer master.Close()
	if err := master.Resize(console.WinSize{Width: width, Height: 40}); err != nil {
		t.Fatal(err)
	}
	slave, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	shown := make(chan string)
	go func() {
		var b bytes.Buffer
		_, _ = b.ReadFrom(master) // EIO when the slave is closed
		shown <- b.String()
	}()
	do(slave)
	slave.Close()
	return <-shown
}
