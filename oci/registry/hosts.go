package registry

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"github.com/containerd/errdefs"

	"github.com/minirt/mini/oci/name"
)

const (
	dockerDomain = "docker.io"
	dockerHost   = "registry-1.docker.io"
	defaultDir   = "_default"
	// hostsFileLimit bounds what is read of a hosts.toml.
	hostsFileLimit = 1 << 20
)

// endpoint is one host that may be asked for the content of a domain.
type endpoint struct {
	hostConfig
	domain   string // the registry as the reference names it
	origin   bool   // the registry itself, not one of its mirrors
	own      bool   // credentials for the domain may be shown to this host
	renamed  string // what the repository is called there; "": as in the reference
	fallback bool   // speak plain HTTP when the host does not speak HTTPS
	source   string // the file that says so, or ""
	client   *http.Client
	pool     *pool
}

// url is the API's root: https://host/v2.
func (e *endpoint) url() string { return e.scheme + "://" + e.host + e.path }

// repository is what a reference's repository is called there.
func (e *endpoint) repository(ref name.Ref) string {
	if e.renamed != "" {
		return e.renamed
	}
	return ref.Path()
}

// applyTo merges what a registries.conf says of a place into an endpoint of it. domain is the registry that was asked for:
// its credentials are shown to no other.
func (p place) applyTo(e *endpoint, domain string) {
	e.renamed = p.path
	e.origin = e.origin && !p.mirror
	e.own = e.own && p.domain == domain
	e.capabilities &= p.capabilities
	if p.insecure && e.skipVerify == nil {
		yes := true
		e.skipVerify = &yes
		e.fallback = e.fallback || e.scheme == "https"
	}
}

// label names the endpoint in messages.
func (e *endpoint) label() string {
	prefix := ""
	if !e.origin {
		prefix = "mirror "
	}
	return prefix + e.spoken() + "://" + e.host + strings.TrimSuffix(e.path, "/v2")
}

// spoken is the scheme by which the host answers, as far as is known.
func (e *endpoint) spoken() string {
	if e.pool != nil && e.pool.plain(e.host) {
		return "http"
	}
	return e.scheme
}

// ns is the value of the query parameter that tells a mirror which registry is
// meant, or "" for the registry's own host.
func (e *endpoint) ns() string {
	if e.host == hostOf(e.domain) {
		return ""
	}
	return e.domain
}

// hostOf is where the registry of a domain listens by default.
func hostOf(domain string) string {
	if domain == dockerDomain {
		return dockerHost
	}
	return domain
}

// hostDirs lists the directories that may configure a domain, best first. A
// port is written host_port_ where a colon is inconvenient.
func hostDirs(root, domain string) []string {
	var dirs []string
	if i := strings.LastIndex(domain, ":"); i > 0 {
		dirs = append(dirs, filepath.Join(root, domain[:i]+"_"+domain[i+1:]+"_"))
	}
	return append(dirs, filepath.Join(root, domain), filepath.Join(root, defaultDir))
}

// findHostDir returns the first directory that exists, or "".
func findHostDir(roots []string, domain string) (string, error) {
	for _, root := range roots {
		for _, dir := range hostDirs(root, domain) {
			switch info, err := os.Stat(dir); {
			case err == nil && info.IsDir():
				return dir, nil
			case err == nil:
				return "", fmt.Errorf("%s: not a directory; put hosts.toml into a directory of this name: %w", dir, errdefs.ErrInvalidArgument)
			case !errors.Is(err, fs.ErrNotExist):
				return "", fmt.Errorf("registry configuration: %w", err)
			}
		}
	}
	return "", nil
}

// loadHosts reads the configuration of a domain: hosts.toml, or else the
// certificates in the directory, or nil when there is no directory. source is
// the file or directory that was read. It is read anew for each operation, so
// that changes need no restart.
func loadHosts(roots []string, domain string) (file *hostsFile, source string, err error) {
	dir, err := findHostDir(roots, domain)
	if err != nil || dir == "" {
		return nil, "", err
	}
	source = filepath.Join(dir, "hosts.toml")
	data, err := readLimited(source, hostsFileLimit)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, source, fmt.Errorf("registry configuration: %w", err)
	}
	if len(data) == 0 {
		server, err := certificates(dir)
		return &hostsFile{server: server}, dir, err
	}
	f, err := parseHostsFile(dir, data)
	if err != nil {
		return nil, source, fmt.Errorf("%s: %w", source, err)
	}
	return &f, source, nil
}

// certificates reads a directory laid out as Docker's certs.d: *.crt are
// authorities, *.cert with the *.key of the same name are client certificates.
func certificates(dir string) (hostConfig, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return hostConfig{}, fmt.Errorf("registry certificates: %w", err)
	}
	files := map[string]bool{}
	for _, e := range entries {
		files[e.Name()] = !e.IsDir()
	}
	h := hostConfig{capabilities: capAll}
	for _, e := range entries { // sorted by name
		name := e.Name()
		switch {
		case e.IsDir():
		case strings.HasSuffix(name, ".crt"):
			h.ca = append(h.ca, filepath.Join(dir, name))
		case strings.HasSuffix(name, ".cert"):
			pair := keyPair{cert: filepath.Join(dir, name)}
			if key := strings.TrimSuffix(name, ".cert") + ".key"; files[key] {
				pair.key = filepath.Join(dir, key)
			}
			h.clients = append(h.clients, pair)
		}
	}
	return h, nil
}

// plan decides, without touching anything, which hosts serve a domain and in
// which order: the mirrors of the file, then the server.
func plan(domain string, file *hostsFile, source string, o HostOverride) []*endpoint {
	var configs []hostConfig
	if file != nil {
		configs = append(configs, file.hosts...)
		configs = append(configs, file.server)
	} else {
		configs = []hostConfig{{}}
	}
	byDefault := filepath.Base(source) == defaultDir || filepath.Base(filepath.Dir(source)) == defaultDir
	var out []*endpoint
	for i, h := range configs {
		last := i == len(configs)-1
		e := &endpoint{hostConfig: h, domain: domain, origin: last, source: source}
		if last && h.host == "" {
			e.hostConfig = defaultHost(domain, h, o)
			e.own = true
		} else {
			e.own = last && !byDefault || h.host == hostOf(domain)
		}
		o.applyTo(e)
		out = append(out, e)
	}
	return out
}

// defaultHost is the registry's own host, for which the file at most says how
// to speak TLS.
func defaultHost(domain string, h hostConfig, o HostOverride) hostConfig {
	h.host, h.path, h.capabilities, h.scheme = hostOf(domain), "/v2", capAll, "https"
	_, port, _ := net.SplitHostPort(domain)
	switch {
	case o.PlainHTTP:
		h.scheme = "http"
	case isLoopback(domain) && port != "" && port != "443":
		// The protocol is not known: HTTPS is tried first, see applyTo. Nobody gets certificates for
		// 127.0.0.1, so none are verified unless an authority was configured.
		h.scheme = "http"
		if port != "80" && !h.explicitTLS() && o.CA == "" {
			yes := true
			h.skipVerify = &yes
		}
	}
	return h
}

// applyTo merges what the user asked for into an endpoint; what hosts.toml says
// of it explicitly wins. A host of scheme http with a TLS configuration is
// tried with HTTPS first, as containerd does.
func (o HostOverride) applyTo(e *endpoint) {
	if o.CA != "" {
		e.ca = append(e.ca[:len(e.ca):len(e.ca)], o.CA)
	}
	if o.Cert != "" {
		e.clients = append(e.clients[:len(e.clients):len(e.clients)], keyPair{cert: o.Cert, key: o.Key})
	}
	if o.SkipVerify && e.skipVerify == nil {
		yes := true
		e.skipVerify = &yes
	}
	_, port, _ := net.SplitHostPort(e.host)
	if e.scheme == "http" && port != "80" && e.explicitTLS() && !(o.PlainHTTP && e.origin) {
		e.scheme, e.fallback = "https", true
	}
}

// isLoopback reports whether a host[:port] can only be this machine.
func isLoopback(host string) bool {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	host = strings.Trim(host, "[]")
	if host == "localhost" {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

// with selects the endpoints that have a capability.
func with(endpoints []*endpoint, c Capability) []*endpoint {
	var out []*endpoint
	for _, e := range endpoints {
		if e.capabilities&c == c {
			out = append(out, e)
		}
	}
	return out
}
