package name

import (
	"errors"
	"fmt"
	"strings"

	"github.com/opencontainers/go-digest"
)

// The grammar is that of github.com/distribution/reference, which spells it in regular expressions; a test compares the
// two. Compiling those at every start took a command line longer than all else before its first line.

const (
	defaultDomain = "docker.io"
	legacyDomain  = "index.docker.io"
	official      = "library/" // before repositories of one part on the default domain
	maxRepository = 255        // characters of a repository's path
	maxTag        = 128        // characters
)

var (
	errForm      = errors.New("invalid reference format")
	errUppercase = errors.New("repository name must be lowercase")
	errTooLong   = fmt.Errorf("repository name must not be more than %d characters", maxRepository)
)

// normalized reads a reference and completes its name as Docker does.
func normalized(s string) (Ref, error) {
	if len(s) == 64 && isHex(s) {
		return Ref{}, errors.New("64 hexadecimal characters are an id")
	}
	domain, rest := splitDomain(s)
	named, d, digested := strings.Cut(rest, "@")
	path, tag, tagged := named, "", false
	if at := strings.IndexByte(named, ':'); at >= 0 {
		path, tag, tagged = named[:at], named[at+1:], true
	}
	r := Ref{domain: domain, path: path, tag: tag}
	switch {
	case strings.ToLower(path) != path:
		return Ref{}, errUppercase
	case !isDomain(domain), !isPath(path), tagged && !isTag(tag):
		return Ref{}, errForm
	case len(path) > maxRepository:
		return Ref{}, errTooLong
	}
	if digested {
		var err error
		if r.digest, err = digest.Parse(d); err != nil {
			return Ref{}, err
		}
	}
	return r, nil
}

// splitDomain separates a registry from the rest: the first part is one when it cannot be a repository's.
func splitDomain(s string) (domain, rest string) {
	domain, rest, ok := strings.Cut(s, "/")
	if !ok {
		return defaultDomain, official + s
	}
	switch {
	case domain == legacyDomain:
		domain = defaultDomain
	case domain != "localhost" && !strings.ContainsAny(domain, ".:") && strings.ToLower(domain) == domain:
		domain, rest = defaultDomain, s
	}
	if domain == defaultDomain && !strings.Contains(rest, "/") {
		rest = official + rest
	}
	return domain, rest
}

// familiar is a complete name without what Docker adds.
func familiar(domain, path string) string {
	if domain != defaultDomain {
		return domain + "/" + path
	}
	if short, ok := strings.CutPrefix(path, official); ok && !strings.Contains(short, "/") {
		return short
	}
	return path
}

// isDomain: a host's name or address, an IPv6 address in brackets, and perhaps a port.
func isDomain(s string) bool {
	if rest, ok := strings.CutPrefix(s, "["); ok {
		address, port, ok := strings.Cut(rest, "]")
		return ok && address != "" && all(address, isIPv6) && (port == "" || isPort(port))
	}
	host, port := s, ""
	if at := strings.IndexByte(s, ':'); at >= 0 {
		host, port = s[:at], s[at:]
	}
	if port != "" && !isPort(port) {
		return false
	}
	for part := range strings.SplitSeq(host, ".") {
		if part == "" || part[0] == '-' || part[len(part)-1] == '-' || !all(part, func(c byte) bool { return isAlphanumeric(c) || c == '-' }) {
			return false
		}
	}
	return true
}

func isPort(s string) bool { return len(s) > 1 && s[0] == ':' && all(s[1:], isDigit) }

// isPath: parts of lower-case letters and digits, which one period, one or two underscores or any number of hyphens
// separate.
func isPath(s string) bool {
	for part := range strings.SplitSeq(s, "/") {
		if !isPathPart(part) {
			return false
		}
	}
	return true
}

func isPathPart(s string) bool {
	for {
		n := run(s, func(c byte) bool { return isDigit(c) || c >= 'a' && c <= 'z' })
		if n == 0 {
			return false
		}
		if s = s[n:]; s == "" {
			return true
		}
		switch {
		case strings.HasPrefix(s, "__"):
			n = 2
		case s[0] == '.', s[0] == '_':
			n = 1
		default:
			n = run(s, func(c byte) bool { return c == '-' })
		}
		if n == 0 {
			return false
		}
		s = s[n:]
	}
}

func isTag(s string) bool {
	return s != "" && len(s) <= maxTag && isWord(s[0]) && all(s, func(c byte) bool { return isWord(c) || c == '.' || c == '-' })
}

func isWord(c byte) bool         { return isAlphanumeric(c) || c == '_' }
func isDigit(c byte) bool        { return c >= '0' && c <= '9' }
func isAlphanumeric(c byte) bool { return isDigit(c) || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' }
func isIPv6(c byte) bool {
	return isDigit(c) || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F' || c == ':'
}

// run is how many bytes at the beginning are so.
func run(s string, is func(byte) bool) int {
	n := 0
	for n < len(s) && is(s[n]) {
		n++
	}
	return n
}

func all(s string, is func(byte) bool) bool { return run(s, is) == len(s) }
