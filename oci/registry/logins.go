package registry

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/minirt/mini/internal/atomicfile"
)

// Login is what identifies a user to a registry.
type Login struct{ Username, Password, IdentityToken string }

// Verify asks a registry ("localhost:5000") whether it takes the client's login for it: its API is asked for nothing but
// its version (distribution-spec, end-1). ErrUnauthenticated says that it does not.
func (c *Client) Verify(ctx context.Context, domain string) error {
	hosts, err := c.endpointsOf(domain, "", false, CapResolve)
	if err != nil {
		return configError("log in to", domain, err)
	}
	for _, e := range hosts {
		if !e.origin {
			continue
		}
		return c.failOver(ctx, "log in to", domain, []*endpoint{e}, func(e *endpoint, p patience) error {
			return c.retry(ctx, p, func() error {
				resp, err := c.do(ctx, e, &call{method: http.MethodGet, url: e.url() + "/", thing: "registry"})
				if err != nil {
					return err
				}
				return resp.Body.Close()
			})
		})
	}
	return nil
}

// configKey is what a registry is called in config.json.
func configKey(domain string) string {
	if canonicalHost(domain) == canonicalHost(dockerKey) {
		return dockerKey
	}
	return domain
}

// StoredLogin finds the login of a registry in Docker's config.json or with its credential helper; config is as in
// Options. A zero login says that there is none.
func StoredLogin(ctx context.Context, config, domain string) (Login, error) {
	_, parsed, err := readDockerConfig(config)
	if err != nil {
		return Login{}, err
	}
	l, err := parsed.find(domain)
	if err != nil {
		return Login{}, err
	}
	if l.helper != "" {
		asked, err := askHelper(ctx, l.helper, l.key)
		if err != nil {
			return Login{}, err
		}
		if !asked.empty() {
			l = asked
		}
	}
	return Login{l.username, l.password, l.identityToken}, nil
}

// StoreLogin keeps a login where Docker's configuration says: with a credential helper, or in the file, where it is not
// encrypted. It returns the file, or "" for a helper. What else is in the file stays.
func StoreLogin(ctx context.Context, config, domain string, l Login) (string, error) {
	path, parsed, err := readDockerConfig(config)
	if err != nil {
		return "", err
	}
	key := configKey(domain)
	if helper := parsed.helperFor(domain); helper != "" {
		user, secret := l.Username, l.Password
		if l.IdentityToken != "" {
			user, secret = tokenUser, l.IdentityToken
		}
		document, err := json.Marshal(map[string]string{"ServerURL": key, "Username": user, "Secret": secret})
		if err != nil {
			return "", err
		}
		return "", runHelper(ctx, helper, "store", document)
	}
	entry := map[string]string{"auth": base64.StdEncoding.EncodeToString([]byte(l.Username + ":" + l.Password))}
	if l.IdentityToken != "" {
		entry["identitytoken"] = l.IdentityToken
	}
	return path, changeAuths(path, func(auths map[string]json.RawMessage) error {
		data, err := json.Marshal(entry)
		auths[key] = data
		return err
	})
}

// EraseLogin forgets the login of a registry, and says whether there was one.
func EraseLogin(ctx context.Context, config, domain string) (bool, error) {
	path, parsed, err := readDockerConfig(config)
	if err != nil {
		return false, err
	}
	if helper := parsed.helperFor(domain); helper != "" {
		return true, runHelper(ctx, helper, "erase", []byte(configKey(domain)))
	}
	name, found := bestKey(parsed.Auths, domain, configKey(domain))
	if !found {
		return false, nil
	}
	return true, changeAuths(path, func(auths map[string]json.RawMessage) error {
		delete(auths, name)
		return nil
	})
}

func (d dockerConfig) helperFor(domain string) string {
	if name, ok := bestKey(d.CredHelpers, domain, configKey(domain)); ok {
		return d.CredHelpers[name]
	}
	return d.CredsStore
}

// readDockerConfig reads config.json; one that does not exist is empty.
func readDockerConfig(configured string) (path string, config dockerConfig, err error) {
	if path, err = dockerConfigPath(configured); err != nil {
		return "", config, err
	}
	data, err := readLimited(path, dockerConfigLimit)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return path, config, fmt.Errorf("credentials: %w", err)
	}
	if config, err = parseDockerConfig(data); err != nil {
		return path, config, fmt.Errorf("%s: %w", path, err)
	}
	return path, config, nil
}

// changeAuths rewrites the logins of config.json and leaves the rest of it as it is.
func changeAuths(path string, change func(map[string]json.RawMessage) error) error {
	document, auths := map[string]json.RawMessage{}, map[string]json.RawMessage{}
	data, err := readLimited(path, dockerConfigLimit)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("credentials: %w", err)
	}
	for _, part := range []struct {
		data []byte
		into any
	}{{data, &document}, {nil, &auths}} {
		if part.data == nil {
			part.data = document["auths"]
		}
		if len(bytes.TrimSpace(part.data)) == 0 {
			continue
		}
		if err := json.Unmarshal(part.data, part.into); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
	}
	if err := change(auths); err != nil {
		return err
	}
	if document["auths"], err = json.Marshal(auths); err != nil {
		return err
	}
	out, err := json.MarshalIndent(document, "", "\t")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("credentials: %w", err)
	}
	return atomicfile.Write(path, append(out, '\n'), 0o600)
}

// runHelper has a credential helper store or erase a login.
func runHelper(ctx context.Context, helper, verb string, input []byte) error {
	program := "docker-credential-" + helper
	ctx, cancel := context.WithTimeout(ctx, helperTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, verb)
	cmd.Stdin, cmd.WaitDelay = bytes.NewReader(input), time.Second
	out, err := cmd.CombinedOutput()
	if err != nil && !strings.Contains(string(out), "credentials not found") {
		return fmt.Errorf("%s %s: %w: %s", program, verb, err, oneLine(string(out)))
	}
	return nil
}
