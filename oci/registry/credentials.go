package registry

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/containerd/errdefs"
)

const (
	// dockerKey is what Docker calls its own registry in config.json.
	dockerKey = "https://index.docker.io/v1/"
	// anonymous describes no login.
	anonymous = "nobody"
	// tokenUser is the user name by which helpers mark an identity token.
	tokenUser = "<token>"

	dockerConfigLimit = 4 << 20
	helperTimeout     = 30 * time.Second
)

// login is what identifies us to one host, and where it comes from.
type login struct {
	username, password, identityToken, registryToken string
	helper, key                                      string // a credential helper still to be asked, and for what
	source                                           string
}

func (l login) empty() bool {
	return l.username == "" && l.password == "" && l.identityToken == "" && l.registryToken == ""
}

// describe says whose login it is, without secrets.
func (l login) describe() string {
	switch {
	case l.helper != "" && l.empty():
		return "docker-credential-" + l.helper
	case l.username != "":
		return fmt.Sprintf("%q (%s)", l.username, l.source)
	case !l.empty():
		return "a token (" + l.source + ")"
	}
	return anonymous
}

// dockerConfig is the part of config.json that is about logins.
type dockerConfig struct {
	Auths       map[string]dockerAuth `json:"auths"`
	CredHelpers map[string]string     `json:"credHelpers"`
	CredsStore  string                `json:"credsStore"`
}

type dockerAuth struct {
	Auth          string `json:"auth"`
	Username      string `json:"username"`
	Password      string `json:"password"`
	IdentityToken string `json:"identitytoken"`
	RegistryToken string `json:"registrytoken"`
}

// findLogin decides which login an endpoint is shown, running nothing: the
// user's for the registry it was given for, else that of Docker's config.json
// for the very host. A mirror is never shown the login of the registry.
func (c *Client) findLogin(e *endpoint) (login, error) {
	o := c.override
	given := login{username: o.Username, password: o.Password, identityToken: o.IdentityToken, registryToken: o.RegistryToken, source: "given"}
	if !given.empty() && (o.Host == "" && e.own || o.Host != "" && (o.Host == e.host || e.own && o.Host == e.domain)) {
		return given, nil
	}
	path, err := dockerConfigPath(c.opts.DockerConfig)
	if err != nil {
		return login{}, err
	}
	data, err := readLimited(path, dockerConfigLimit)
	if errors.Is(err, fs.ErrNotExist) {
		return login{}, nil
	} else if err != nil {
		return login{}, fmt.Errorf("credentials: %w", err)
	}
	config, err := parseDockerConfig(data)
	if err != nil {
		return login{}, fmt.Errorf("%s: %w", path, err)
	}
	hosts := []string{e.host}
	if e.own && e.domain != e.host {
		hosts = append(hosts, e.domain)
	}
	for _, host := range hosts {
		l, err := config.find(host)
		if err != nil {
			return login{}, fmt.Errorf("%s: %w", path, err)
		}
		if l.source = filepath.Base(path); !l.empty() || l.helper != "" {
			return l, nil
		}
	}
	return login{}, nil
}

// login is findLogin with the credential helper asked.
func (c *Client) login(ctx context.Context, e *endpoint) (login, error) {
	l, err := c.findLogin(e)
	if err != nil || l.helper == "" {
		return l, err
	}
	asked, err := askHelper(ctx, l.helper, l.key)
	if err != nil {
		return l.withoutHelper(), err
	}
	if asked.empty() {
		return l.withoutHelper(), nil
	}
	return asked, nil
}

// withoutHelper is what config.json itself has, which is asked last.
func (l login) withoutHelper() login {
	l.helper, l.key = "", ""
	return l
}

// dockerConfigPath is the file meant by Options.DockerConfig.
func dockerConfigPath(configured string) (string, error) {
	path := configured
	if path == "" {
		path = os.Getenv("DOCKER_CONFIG")
	}
	if path == "" {
		home := os.Getenv("HOME")
		if home == "" {
			home = "/root" // a daemon's environment may lack it
		}
		path = filepath.Join(home, ".docker")
	}
	info, err := os.Stat(path)
	switch {
	case err == nil && info.IsDir(), errors.Is(err, fs.ErrNotExist) && filepath.Ext(path) != ".json":
		return filepath.Join(path, "config.json"), nil
	case err == nil || errors.Is(err, fs.ErrNotExist):
		return path, nil
	}
	return "", fmt.Errorf("credentials: %w", err)
}

func parseDockerConfig(data []byte) (dockerConfig, error) {
	var config dockerConfig
	if len(bytes.TrimSpace(data)) == 0 {
		return config, nil
	}
	if err := json.Unmarshal(data, &config); err != nil {
		return config, fmt.Errorf("%v: %w", err, errdefs.ErrInvalidArgument)
	}
	return config, nil
}

// find looks a host up: helper of the host, helper of all, then the file.
func (d dockerConfig) find(host string) (login, error) {
	key := host
	if canonicalHost(host) == canonicalHost(dockerKey) {
		key = dockerKey
	}
	l, err := d.inFile(host, key)
	if err != nil {
		return l, err
	}
	l.helper, l.key = d.CredsStore, key
	if name, ok := bestKey(d.CredHelpers, host, key); ok {
		l.helper = d.CredHelpers[name]
	}
	return l, nil
}

// inFile reads the auths.
func (d dockerConfig) inFile(host, key string) (login, error) {
	name, _ := bestKey(d.Auths, host, key)
	a := d.Auths[name]
	l := login{username: a.Username, password: a.Password, identityToken: a.IdentityToken, registryToken: a.RegistryToken}
	if a.Auth != "" {
		user, password, err := decodeAuth(a.Auth)
		if err != nil {
			return login{}, fmt.Errorf("login of %s: %w", host, err)
		}
		l.username, l.password = user, password
	}
	return l, nil
}

// bestKey finds the entry for a host: keys may be hosts or URLs of them. The
// exact key wins over one that only means the same host.
func bestKey[V any](entries map[string]V, host, key string) (name string, found bool) {
	for _, exact := range []string{key, host} {
		if _, ok := entries[exact]; ok {
			return exact, true
		}
	}
	for other := range entries {
		if canonicalHost(other) == canonicalHost(key) && (!found || other < name) {
			name, found = other, true
		}
	}
	return name, found
}

// canonicalHost is the host[:port] of a key of config.json; all of Docker
// Hub's names are one.
func canonicalHost(key string) string {
	key = strings.TrimPrefix(strings.TrimPrefix(key, "https://"), "http://")
	host, _, _ := strings.Cut(key, "/")
	if host == dockerDomain || host == dockerHost {
		return "index.docker.io"
	}
	return host
}

func decodeAuth(s string) (user, password string, err error) {
	raw, err := base64.StdEncoding.DecodeString(s)
	if err == nil {
		if user, password, ok := strings.Cut(string(raw), ":"); ok && user != "" {
			return user, strings.Trim(password, "\x00"), nil
		}
	}
	return "", "", fmt.Errorf("auth is not the base64 of user:password: log in again: %w", errdefs.ErrInvalidArgument)
}

// askHelper runs docker-credential-NAME get with the host on its standard
// input. An empty login means that it knows none.
func askHelper(ctx context.Context, helper, key string) (login, error) {
	program := "docker-credential-" + helper
	if strings.ContainsRune(helper, filepath.Separator) {
		return login{}, fmt.Errorf("credential helper %q: the part of a program's name after docker-credential- is wanted: %w", helper, errdefs.ErrInvalidArgument)
	}
	ctx, cancel := context.WithTimeout(ctx, helperTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, "get")
	cmd.Stdin = strings.NewReader(key)
	cmd.WaitDelay = time.Second
	out, err := cmd.Output()
	if err != nil {
		if strings.Contains(string(out), "credentials not found") {
			return login{}, nil
		}
		return login{}, fmt.Errorf("%s: %w: %s", program, err, oneLine(string(out)))
	}
	return parseHelperAnswer(out, program)
}

func parseHelperAnswer(out []byte, program string) (login, error) {
	var answer struct{ Username, Secret string }
	if err := json.Unmarshal(out, &answer); err != nil {
		return login{}, fmt.Errorf("%s: the answer is not that of a credential helper: %w", program, errdefs.ErrInvalidArgument)
	}
	if answer.Username == tokenUser {
		return login{identityToken: answer.Secret, source: program}, nil
	}
	return login{username: answer.Username, password: answer.Secret, source: program}, nil
}
