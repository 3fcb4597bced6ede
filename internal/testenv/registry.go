package testenv

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// RegistryOptions says what kind of registry a test wants.
type RegistryOptions struct {
	TLS        bool // served with a certificate of its own CA, in CA
	ClientCert bool // with TLS: clients need ClientCert and ClientKey
	BasicAuth  bool // wants User and Password
	Empty      bool // without the test images
}

// The credentials of a registry with basic auth.
const (
	User     = "tester"
	Password = "secret"
	// passwordHash is bcrypt's of the password, as htpasswd -B writes it.
	passwordHash = "$2y$05$fLxqRuDNBLW0SvtuyW9gZe5r4Xd8yYxjv8yyL/e8CWtiSh41Ly1Ca"
)

// RegistryServer is Debian's docker-registry on a loopback port.
type RegistryServer struct {
	Address                   string // 127.0.0.1:port
	CA, ClientCert, ClientKey string // files
	Dir                       string

	t       testing.TB
	options RegistryOptions
	process *os.Process
	done    chan struct{}
}

// Registry starts a registry with the test images (unless Empty); it may be written to. It ends with the test.
func Registry(t testing.TB, o RegistryOptions) *RegistryServer {
	t.Helper()
	Need(t, "docker-registry")
	r := &RegistryServer{t: t, options: o, Dir: Dir(t), Address: "127.0.0.1:0"}
	if !o.Empty {
		Images(t)
		if err := copyStorage(filepath.Join(imagesDir(t), "registry"), filepath.Join(r.Dir, "storage")); err != nil {
			t.Fatalf("copy the registry's storage: %v", err)
		}
	}
	if o.TLS {
		if err := r.makeCertificates(); err != nil {
			t.Fatalf("certificates: %v", err)
		}
	}
	r.Start()
	t.Cleanup(r.Stop)
	return r
}

// Ref is an image's full name in this registry.
func (r *RegistryServer) Ref(repo string) string { return r.Address + "/" + repo + ":latest" }

// Tagged is a test image's name in this registry: some have other tags than "latest".
func (r *RegistryServer) Tagged(i ImageInfo) string { return r.Address + "/" + i.Repo + ":" + i.Tag }

// URL is the registry's root.
func (r *RegistryServer) URL() string {
	if r.options.TLS {
		return "https://" + r.Address
	}
	return "http://" + r.Address
}

// Log is what the registry has written so far.
func (r *RegistryServer) Log() string {
	data, err := os.ReadFile(r.logPath())
	if err != nil {
		return err.Error()
	}
	return string(data)
}

func (r *RegistryServer) logPath() string { return filepath.Join(r.Dir, "registry.log") }

// Start starts the registry, after a Stop on the port that it had.
func (r *RegistryServer) Start() {
	r.t.Helper()
	config := filepath.Join(r.Dir, "config.json") // YAML, of which JSON is a part
	if err := r.writeConfig(config); err != nil {
		r.t.Fatal(err)
	}
	log, err := os.Create(r.logPath())
	if err != nil {
		r.t.Fatal(err)
	}
	defer log.Close()
	program, err := find("docker-registry")
	if err != nil {
		r.t.Fatal(err)
	}
	cmd := exec.Command(program, "serve", config)
	cmd.Stdout, cmd.Stderr, cmd.Env = log, log, append(os.Environ(), "OTEL_TRACES_EXPORTER=none")
	if err := cmd.Start(); err != nil {
		r.t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		_ = cmd.Wait() // its end is what is waited for, not how
		close(done)
	}()
	r.process, r.done = cmd.Process, done
	if !poll(10*time.Second, func() bool { return r.listening() != "" }) {
		r.Stop()
		r.t.Fatalf("docker-registry does not listen:\n%s", r.Log())
	}
	r.Address = r.listening()
}

// Stop ends the registry; what it stores stays until the test's end.
func (r *RegistryServer) Stop() {
	if r.process == nil {
		return
	}
	_ = r.process.Kill() // it may have ended by itself
	<-r.done
	r.process = nil
}

// listening finds the address in the log.
func (r *RegistryServer) listening() string {
	lines := bufio.NewScanner(strings.NewReader(r.Log()))
	for lines.Scan() {
		if _, rest, ok := strings.Cut(lines.Text(), "listening on "); ok {
			return strings.FieldsFunc(rest, func(c rune) bool { return c == ',' || c == '"' || c == ' ' })[0]
		}
	}
	return ""
}

func (r *RegistryServer) writeConfig(name string) error {
	http := map[string]any{"addr": r.Address, "secret": "of-the-tests", "relativeurls": true}
	if r.options.TLS {
		tls := map[string]any{"certificate": filepath.Join(r.Dir, "server.crt"), "key": filepath.Join(r.Dir, "server.key")}
		if r.options.ClientCert {
			tls["clientcas"] = []string{r.CA}
		}
		http["tls"] = tls
	}
	config := map[string]any{
		"version": "0.1",
		"log":     map[string]any{"level": "info", "accesslog": map[string]any{"disabled": false}},
		"storage": map[string]any{
			"filesystem": map[string]any{"rootdirectory": filepath.Join(r.Dir, "storage")},
			"delete":     map[string]any{"enabled": true},
		},
		"http": http,
	}
	if r.options.BasicAuth {
		users := filepath.Join(r.Dir, "htpasswd")
		if err := os.WriteFile(users, []byte(User+":"+passwordHash+"\n"), 0o600); err != nil {
			return err
		}
		config["auth"] = map[string]any{"htpasswd": map[string]any{"realm": "tests", "path": users}}
	}
	data, err := json.Marshal(config)
	if err != nil {
		return err
	}
	return os.WriteFile(name, data, 0o644)
}

// copyStorage copies a registry's directory; the blobs, which never change, are linked where the filesystem is the same.
func copyStorage(from, to string) error {
	return filepath.WalkDir(from, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, name)
		if err != nil {
			return err
		}
		target := filepath.Join(to, rel)
		if d.IsDir() {
			return os.MkdirAll(target, 0o755)
		}
		if d.Name() == "data" && os.Link(name, target) == nil {
			return nil
		}
		data, err := os.ReadFile(name)
		if err != nil {
			return fmt.Errorf("copy: %w", err)
		}
		return os.WriteFile(target, data, 0o644)
	})
}
