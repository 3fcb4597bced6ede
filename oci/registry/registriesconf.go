package registry

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/pelletier/go-toml/v2"

	"github.com/minirt/mini/oci/name"
)

// registriesFile is a containers-registries.conf(5) of version 2, with the files of its drop-in directory laid over it.
type registriesFile struct {
	source    string
	search    []string // unqualified-search-registries
	shortMode string
	aliases   map[string]string
	rules     []registryRule
}

// registryRule is one [[registry]].
type registryRule struct {
	Prefix             string         `toml:"prefix"`
	Location           string         `toml:"location"`
	Insecure           bool           `toml:"insecure"`
	Blocked            bool           `toml:"blocked"`
	MirrorByDigestOnly bool           `toml:"mirror-by-digest-only"`
	Mirrors            []registryCopy `toml:"mirror"`
}

// registryCopy is one [[registry.mirror]].
type registryCopy struct {
	Location string `toml:"location"`
	Insecure bool   `toml:"insecure"`
	PullFrom string `toml:"pull-from-mirror"`
}

// The values of short-name-mode, and those of pull-from-mirror.
const (
	shortEnforcing  = "enforcing"
	shortPermissive = "permissive"
	shortDisabled   = "disabled"

	pullAll    = "all"
	pullDigest = "digest-only"
	pullTag    = "tag-only"
)

const registriesFileLimit = 1 << 20

type tomlRegistries struct {
	Search     []string          `toml:"unqualified-search-registries"`
	ShortMode  string            `toml:"short-name-mode"`
	Helpers    []string          `toml:"credential-helpers"`
	LayerStore string            `toml:"additional-layer-store-auth-helper"`
	Aliases    map[string]string `toml:"aliases"`
	Registries []registryRule    `toml:"registry"`
}

// loadRegistries reads the file at path and those in path.d, in their names' order. A path that is empty or not there is
// an empty configuration. It is read anew for each operation, so that changes need no restart.
func loadRegistries(path string) (registriesFile, error) {
	all := registriesFile{source: path, aliases: map[string]string{}}
	if path == "" {
		return all, nil
	}
	dropIns, err := filepath.Glob(filepath.Join(path+".d", "*.conf"))
	if err != nil {
		return all, err
	}
	for _, file := range append([]string{path}, dropIns...) {
		data, err := readLimited(file, registriesFileLimit)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return all, fmt.Errorf("registry configuration: %w", err)
		}
		one, err := parseRegistries(data)
		if err != nil {
			return all, fmt.Errorf("%s: %w", file, err)
		}
		all.lay(one)
	}
	return all, nil
}

// parseRegistries reads the text of one file. Errors are errdefs.ErrInvalidArgument with the line.
func parseRegistries(data []byte) (registriesFile, error) {
	var t tomlRegistries
	d := toml.NewDecoder(strings.NewReader(string(data))).DisallowUnknownFields()
	if err := d.Decode(&t); err != nil {
		return registriesFile{}, explainTOML(err)
	}
	f := registriesFile{search: t.Search, shortMode: t.ShortMode, aliases: t.Aliases, rules: t.Registries}
	bad := func(format string, args ...any) error {
		return fmt.Errorf(format+": %w", append(args, errdefs.ErrInvalidArgument)...)
	}
	if !slices.Contains([]string{"", shortEnforcing, shortPermissive, shortDisabled}, f.shortMode) {
		return f, bad("short-name-mode %q is none of enforcing, permissive and disabled", f.shortMode)
	}
	for i := range f.rules {
		r := &f.rules[i]
		switch {
		case r.Prefix == "" && r.Location == "":
			return f, bad("registry %d has neither a prefix nor a location", i+1)
		case r.Prefix == "":
			r.Prefix = r.Location
		case r.Location == "" && strings.HasPrefix(r.Prefix, "*."):
			// The images stay where their names say; only the rest of the rule counts.
		case r.Location == "":
			r.Location = r.Prefix
		}
		if r.Prefix = strings.TrimSuffix(r.Prefix, "/"); strings.Contains(strings.TrimPrefix(r.Prefix, "*."), "*") {
			return f, bad("prefix %q: * may only stand for the first part of a host, as in *.example.com", r.Prefix)
		}
		for _, location := range append([]string{r.Location}, locations(r.Mirrors)...) {
			if strings.Contains(location, "://") || strings.HasPrefix(location, "/") {
				return f, bad("location %q: a host with or without a path is wanted, and no scheme", location)
			}
		}
		for j, m := range r.Mirrors {
			if m.Location == "" {
				return f, bad("mirror %d of %s has no location", j+1, r.Prefix)
			}
			if !slices.Contains([]string{"", pullAll, pullDigest, pullTag}, m.PullFrom) {
				return f, bad("pull-from-mirror %q is none of all, digest-only and tag-only", m.PullFrom)
			}
		}
	}
	return f, nil
}

func locations(mirrors []registryCopy) []string {
	list := make([]string, len(mirrors))
	for i, m := range mirrors {
		list[i] = m.Location
	}
	return list
}

// lay puts a later file over what there is: its values win, and a rule replaces the one of the same prefix.
func (f *registriesFile) lay(over registriesFile) {
	if over.search != nil {
		f.search = over.search
	}
	if over.shortMode != "" {
		f.shortMode = over.shortMode
	}
	maps.Copy(f.aliases, over.aliases)
	for _, r := range over.rules {
		i := slices.IndexFunc(f.rules, func(have registryRule) bool { return have.Prefix == r.Prefix })
		if i < 0 {
			f.rules = append(f.rules, r)
		} else {
			f.rules[i] = r
		}
	}
}

// rule is the one whose prefix is the longest that a repository has; nil: none.
func (f registriesFile) rule(repository string) *registryRule {
	var best *registryRule
	length := -1
	for i := range f.rules {
		if n := f.rules[i].matches(repository); n > length {
			best, length = &f.rules[i], n
		}
	}
	return best
}

// matches tells how much of a repository's name the prefix covers, in bytes; -1: it does not. A host alone covers all of
// its repositories, *.example.com the hosts below example.com.
func (r registryRule) matches(repository string) int {
	if suffix, ok := strings.CutPrefix(r.Prefix, "*"); ok {
		host, _, _ := strings.Cut(repository, "/")
		if bare, _, hasPort := strings.Cut(host, ":"); hasPort && !strings.Contains(suffix, ":") {
			host = bare
		}
		domain, path, _ := strings.Cut(suffix, "/")
		if path != "" || !strings.HasSuffix(host, domain) || host == domain {
			return -1
		}
		return len(domain)
	}
	if repository == r.Prefix || strings.HasPrefix(repository, r.Prefix+"/") {
		return len(r.Prefix) + 1 // before a pattern of the same length
	}
	return -1
}

// place is where the content of a repository may be had.
type place struct {
	domain, path string // path is the repository's there
	insecure     bool
	mirror       bool
	capabilities Capability
}

// places lists them in the order in which they are tried: mirrors, and then the registry itself. A blocked one is
// errdefs.ErrPermissionDenied.
func (f registriesFile) places(domain, path string, byDigest bool) ([]place, error) {
	own := place{domain: domain, path: path, capabilities: capAll}
	repository := strings.TrimSuffix(domain+"/"+path, "/")
	r := f.rule(repository)
	if r == nil {
		return []place{own}, nil
	}
	if r.Blocked {
		return nil, fmt.Errorf("registry %s is blocked in %s: %w", r.Prefix, f.source, errdefs.ErrPermissionDenied)
	}
	var list []place
	if path != "" { // a whole registry has no mirrors
		for _, m := range r.Mirrors {
			p := r.at(m.Location, repository)
			p.mirror, p.insecure, p.capabilities = true, m.Insecure, CapPull|CapResolve|CapReferrers
			switch {
			case m.PullFrom == pullDigest || m.PullFrom == "" && r.MirrorByDigestOnly:
				p.capabilities = CapPull
			case m.PullFrom == pullTag && byDigest:
				continue
			}
			list = append(list, p)
		}
		if r.Location != "" {
			own = r.at(r.Location, repository)
			own.capabilities = capAll
		}
	}
	own.insecure = r.Insecure
	return append(list, own), nil
}

// at puts a location in the place of the prefix of a repository. Below a pattern, and where that is Docker's, the whole
// host is replaced.
func (r registryRule) at(location, repository string) place {
	rest := strings.TrimPrefix(strings.TrimPrefix(repository, r.Prefix), "/")
	if strings.HasPrefix(r.Prefix, "*.") {
		_, rest, _ = strings.Cut(repository, "/")
	}
	domain, path, _ := strings.Cut(strings.TrimSuffix(location, "/"), "/")
	return place{domain: domain, path: strings.Trim(path+"/"+rest, "/")}
}

// ShortNames lists the names that an image without a registry may have, best first, as the registries.conf at path says:
// its alias, else the name in each of the registries that are searched. None: it is for Docker's rule to complete. With
// short-name-mode = "enforcing", the default, several registries are errdefs.ErrInvalidArgument: nobody is there to be
// asked which is meant.
func ShortNames(path, ref string) ([]string, error) {
	if path == "" || !isShort(ref) {
		return nil, nil
	}
	f, err := loadRegistries(path)
	if err != nil {
		return nil, err
	}
	repository, version := ref, ""
	if i := strings.IndexAny(ref, ":@"); i >= 0 {
		repository, version = ref[:i], ref[i:]
	}
	if alias := f.aliases[repository]; alias != "" && f.shortMode != shortDisabled {
		full, err := name.Parse(alias + version)
		if err != nil {
			return nil, fmt.Errorf("alias %q in %s: %w", repository, path, err)
		}
		return []string{full.String()}, nil
	}
	if len(f.search) > 1 && (f.shortMode == shortEnforcing || f.shortMode == "") {
		return nil, fmt.Errorf("image %q has no registry in its name, and %s has several to search (%s): write the whole name, or make an alias in it, or set short-name-mode = \"permissive\": %w",
			ref, path, strings.Join(f.search, ", "), errdefs.ErrInvalidArgument)
	}
	var names []string
	for _, domain := range f.search {
		full, err := name.Parse(domain + "/" + ref)
		if err != nil {
			return nil, err
		}
		names = append(names, full.String())
	}
	return names, nil
}

// isShort tells whether a reference has no registry in it, as Docker tells: the first part has neither a dot nor a port.
func isShort(ref string) bool {
	if _, isID := name.IDPrefix(ref); isID && len(ref) >= 64 {
		return false
	}
	first, _, nested := strings.Cut(ref, "/")
	return !nested || !strings.ContainsAny(first, ".:") && first != "localhost"
}
