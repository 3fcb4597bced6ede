package registry

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"path"
	"path/filepath"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"
)

// Capability is what a host is trusted to do.
type Capability uint8

// The capabilities of a host. Pull is by digest, so the answer can be checked;
// Resolve maps a tag to a digest, so the host must be trusted.
const (
	CapPull Capability = 1 << iota
	CapResolve
	CapPush
	CapReferrers

	capAll = CapPull | CapResolve | CapPush | CapReferrers
)

type capabilityName struct {
	name string
	bit  Capability
}

func capabilityNames() []capabilityName {
	return []capabilityName{{"pull", CapPull}, {"resolve", CapResolve}, {"push", CapPush}, {"referrers", CapReferrers}}
}

// String lists the capabilities as hosts.toml spells them: "pull,resolve".
func (c Capability) String() string {
	var names []string
	for _, n := range capabilityNames() {
		if c&n.bit != 0 {
			names = append(names, n.name)
		}
	}
	return strings.Join(names, ",")
}

// keyPair is a client certificate; key is "" when both are in one file.
type keyPair struct{ cert, key string }

// hostConfig is one host as hosts.toml (or a directory of certificates)
// describes it. host is "" where the file leaves it to the reference.
type hostConfig struct {
	scheme, host, path string
	capabilities       Capability
	ca                 []string
	clients            []keyPair
	skipVerify         *bool
	header             http.Header
	dialTimeout        time.Duration
	proxy              *url.URL
}

// explicitTLS reports whether something about TLS was configured.
func (h hostConfig) explicitTLS() bool {
	return len(h.ca) > 0 || len(h.clients) > 0 || h.skipVerify != nil
}

// hostsFile is a read hosts.toml: mirrors in the order of the file, then the
// server.
type hostsFile struct {
	hosts  []hostConfig
	server hostConfig
}

// The shape of the file. The values whose types vary are any.
type tomlHost struct {
	Capabilities []string       `toml:"capabilities"`
	CA           any            `toml:"ca"`
	Client       any            `toml:"client"`
	SkipVerify   *bool          `toml:"skip_verify"`
	Header       map[string]any `toml:"header"`
	OverridePath bool           `toml:"override_path"`
	DialTimeout  string         `toml:"dial_timeout"`
	Proxy        string         `toml:"proxy"`
}

type tomlFile struct {
	tomlHost
	Server string              `toml:"server"`
	Host   map[string]tomlHost `toml:"host"`
}

func tomlKeys() []string {
	return []string{"server", "host", "capabilities", "ca", "client", "skip_verify", "header", "override_path", "dial_timeout", "proxy"}
}

// parseHostsFile reads the text of a hosts.toml; relative paths in it are
// relative to dir. Unlike containerd it refuses a file with mistakes instead of
// ignoring all of it. Errors are errdefs.ErrInvalidArgument with the line.
func parseHostsFile(dir string, data []byte) (hostsFile, error) {
	var f tomlFile
	d := toml.NewDecoder(strings.NewReader(string(data))).DisallowUnknownFields()
	if err := d.Decode(&f); err != nil {
		return hostsFile{}, explainTOML(err)
	}
	var out hostsFile
	for _, name := range hostOrder(data) {
		h, err := f.Host[name].config(name, dir)
		if err != nil {
			return hostsFile{}, fmt.Errorf("host %q: %w", name, err)
		}
		if h.host == "" {
			return hostsFile{}, fmt.Errorf("host %q: a URL such as https://mirror.example.com is wanted: %w", name, errdefs.ErrInvalidArgument)
		}
		out.hosts = append(out.hosts, h)
	}
	var err error
	if out.server, err = f.config(f.Server, dir); err != nil {
		return hostsFile{}, fmt.Errorf("server %q: %w", f.Server, err)
	}
	return out, nil
}

// explainTOML keeps the position and says which key was probably meant.
func explainTOML(err error) error {
	var strict *toml.StrictMissingError
	if errors.As(err, &strict) && len(strict.Errors) > 0 {
		e := strict.Errors[0]
		key := e.Key()
		line, _ := e.Position()
		last := ""
		if len(key) > 0 {
			last = key[len(key)-1]
		}
		return fmt.Errorf("line %d: unknown key %q: %s: %w", line, strings.Join(key, "."), suggest(last, tomlKeys()), errdefs.ErrInvalidArgument)
	}
	var syntax *toml.DecodeError
	if errors.As(err, &syntax) {
		line, column := syntax.Position()
		return fmt.Errorf("line %d, column %d: %s: %w", line, column, strings.TrimPrefix(syntax.Error(), "toml: "), errdefs.ErrInvalidArgument)
	}
	return fmt.Errorf("%s: %w", strings.TrimPrefix(err.Error(), "toml: "), errdefs.ErrInvalidArgument)
}

// hostOrder lists the hosts in the order in which the file first mentions
// them, which decoding into a map loses. The text is known to be valid TOML.
func hostOrder(data []byte) []string {
	var order []string
	seen := map[string]bool{}
	add := func(name string) {
		if !seen[name] {
			seen[name] = true
			order = append(order, name)
		}
	}
	p := unstable.Parser{}
	p.Reset(data)
	var table []string
	for p.NextExpression() {
		e := p.Expression()
		switch e.Kind {
		case unstable.Table, unstable.ArrayTable:
			table = keyParts(e)
			if len(table) > 1 && table[0] == "host" {
				add(table[1])
			}
		case unstable.KeyValue:
			full := append(table[:len(table):len(table)], keyParts(e)...)
			if full[0] != "host" {
				continue
			}
			if len(full) > 1 {
				add(full[1])
			} else if v := e.Value(); v.Kind == unstable.InlineTable {
				for it := v.Children(); it.Next(); {
					if parts := keyParts(it.Node()); len(parts) > 0 {
						add(parts[0])
					}
				}
			}
		}
	}
	return order
}

func keyParts(n *unstable.Node) []string {
	var parts []string
	for it := n.Key(); it.Next(); {
		parts = append(parts, string(it.Node().Data))
	}
	return parts
}

// config turns one table into a host.
func (t tomlHost) config(server, dir string) (hostConfig, error) {
	h := hostConfig{skipVerify: t.SkipVerify}
	var err error
	if server != "" {
		if h.scheme, h.host, h.path, err = parseServer(server, t.OverridePath); err != nil {
			return hostConfig{}, err
		}
	}
	if h.capabilities, err = parseCapabilities(t.Capabilities); err != nil {
		return hostConfig{}, err
	}
	if h.ca, err = pathList("ca", t.CA, dir); err != nil {
		return hostConfig{}, err
	}
	if h.clients, err = keyPairs(t.Client, dir); err != nil {
		return hostConfig{}, err
	}
	if h.header, err = parseHeader(t.Header); err != nil {
		return hostConfig{}, err
	}
	if t.DialTimeout != "" {
		if h.dialTimeout, err = time.ParseDuration(t.DialTimeout); err != nil || h.dialTimeout <= 0 {
			return hostConfig{}, fmt.Errorf("dial_timeout %q: a positive duration such as \"5s\" is wanted: %w", t.DialTimeout, errdefs.ErrInvalidArgument)
		}
	}
	if t.Proxy != "" {
		if h.proxy, err = parseProxy(t.Proxy); err != nil {
			return hostConfig{}, err
		}
	}
	return h, nil
}

// parseServer splits a URL; /v2 is the API's root unless the path is said to
// be it already.
func parseServer(server string, overridePath bool) (scheme, host, root string, err error) {
	if !strings.Contains(server, "://") {
		server = "https://" + server
	}
	u, err := url.Parse(server)
	if err != nil {
		return "", "", "", fmt.Errorf("%s: %w", cause(err), errdefs.ErrInvalidArgument)
	}
	if u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return "", "", "", fmt.Errorf("the form is http[s]://host[:port][/path]: %w", errdefs.ErrInvalidArgument)
	}
	root = u.Path
	if root != "" {
		root = path.Clean(root)
	}
	if !overridePath && !strings.HasSuffix(root, "/v2") {
		root = strings.TrimSuffix(root, "/") + "/v2"
	}
	return u.Scheme, u.Host, strings.TrimSuffix(root, "/"), nil
}

func parseCapabilities(names []string) (Capability, error) {
	if len(names) == 0 {
		return capAll, nil
	}
	var c Capability
	for _, name := range names {
		var bit Capability
		for _, n := range capabilityNames() {
			if strings.EqualFold(name, n.name) {
				bit = n.bit
			}
		}
		if bit == 0 {
			return 0, fmt.Errorf("capability %q: pull, resolve, push and referrers exist: %w", name, errdefs.ErrInvalidArgument)
		}
		c |= bit
	}
	return c, nil
}

// stringList accepts a string or a list of strings.
func stringList(key string, v any) ([]string, error) {
	switch v := v.(type) {
	case nil:
		return nil, nil
	case string:
		return []string{v}, nil
	case []any:
		out := make([]string, 0, len(v))
		for _, e := range v {
			s, ok := e.(string)
			if !ok {
				return nil, fmt.Errorf("%s: a string is wanted instead of %v: %w", key, e, errdefs.ErrInvalidArgument)
			}
			out = append(out, s)
		}
		return out, nil
	}
	return nil, fmt.Errorf("%s: a string or a list of strings is wanted instead of %v: %w", key, v, errdefs.ErrInvalidArgument)
}

func pathList(key string, v any, dir string) ([]string, error) {
	list, err := stringList(key, v)
	for i := range list {
		list[i] = absolute(list[i], dir)
	}
	return list, err
}

// keyPairs accepts "file", ["file", …] and [["cert", "key"], …].
func keyPairs(v any, dir string) ([]keyPair, error) {
	list, ok := v.([]any)
	if !ok {
		list = []any{v}
		if v == nil {
			return nil, nil
		}
	}
	var pairs []keyPair
	for _, e := range list {
		parts, err := pathList("client", e, dir)
		if err != nil {
			return nil, err
		}
		_, nested := e.([]any)
		switch {
		case !nested && len(parts) == 1:
			pairs = append(pairs, keyPair{cert: parts[0]})
		case nested && len(parts) == 2:
			pairs = append(pairs, keyPair{cert: parts[0], key: parts[1]})
		default:
			return nil, fmt.Errorf("client: a pair is [\"certificate\", \"key\"], not %v: %w", e, errdefs.ErrInvalidArgument)
		}
	}
	return pairs, nil
}

// absolute leaves "" alone: in a pair it means that the key is in the
// certificate's file.
func absolute(p, dir string) string {
	if p == "" || filepath.IsAbs(p) {
		return p
	}
	return filepath.Join(dir, p)
}

func parseHeader(m map[string]any) (http.Header, error) {
	if len(m) == 0 {
		return nil, nil
	}
	header := http.Header{}
	for key, v := range m {
		values, err := stringList("header "+key, v)
		if err != nil {
			return nil, err
		}
		if !validHeaderName(key) {
			return nil, fmt.Errorf("header %q: not a header name: %w", key, errdefs.ErrInvalidArgument)
		}
		for _, value := range values {
			if strings.ContainsAny(value, "\r\n\x00") {
				return nil, fmt.Errorf("header %q: a value has no line breaks: %w", key, errdefs.ErrInvalidArgument)
			}
			header.Add(key, value)
		}
	}
	return header, nil
}

// validHeaderName: a token of RFC 9110 section 5.6.2.
func validHeaderName(s string) bool {
	for _, c := range s {
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.ContainsRune("!#$%&'*+-.^_`|~", c)) {
			return false
		}
	}
	return s != ""
}

func parseProxy(s string) (*url.URL, error) {
	u, err := url.Parse(s)
	if err == nil && u.Host != "" && (u.Path == "" || u.Path == "/") && u.RawQuery == "" && u.Fragment == "" {
		switch u.Scheme {
		case "http", "https", "socks5", "socks5h":
			return u, nil
		}
	}
	return nil, fmt.Errorf("proxy %q: the form is http|https|socks5|socks5h://host[:port]: %w", s, errdefs.ErrInvalidArgument)
}
