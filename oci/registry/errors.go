package registry

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"syscall"
	"time"

	"github.com/containerd/errdefs"
)

// Error is a failed operation: at which stage, for what, and what each host
// that was tried answered. Its class is that of the registry's own answer, or
// the last mirror's where the registry was not asked.
type Error struct {
	Stage  string // "resolve", "fetch", "push", …
	Object string // a reference, or a blob of one
	Hosts  []HostError

	decisive error // has the class
	asked    bool  // decisive is the registry's own
}

// HostError is the answer of one host.
type HostError struct {
	Host string // "https://registry-1.docker.io", "mirror http://127.0.0.1:5001"
	Err  error
}

// Error is one line.
func (e *Error) Error() string {
	parts := make([]string, len(e.Hosts))
	for i, h := range e.Hosts {
		parts[i] = h.Host + ": " + h.Err.Error()
	}
	return e.Stage + " " + e.Object + ": " + strings.Join(parts, "; ")
}

// Unwrap gives the error that has the class.
func (e *Error) Unwrap() error {
	if e.decisive == nil {
		return errdefs.ErrUnavailable
	}
	return e.decisive
}

func (e *Error) add(host *endpoint, err error) {
	e.Hosts = append(e.Hosts, HostError{Host: host.label(), Err: err})
	if host.origin || !e.asked {
		e.decisive, e.asked = err, host.origin
	}
}

// problem is an error of a class whose message is complete without the class.
type problem struct {
	message string
	class   error
	inner   error // may be nil
}

func (p *problem) Error() string { return p.message }

func (p *problem) Unwrap() []error {
	if p.inner == nil {
		return []error{p.class}
	}
	return []error{p.class, p.inner}
}

func dataLoss(format string, args ...any) error {
	return &problem{message: fmt.Sprintf(format, args...), class: errdefs.ErrDataLoss}
}

// statusError is an answer that is not the wanted one.
type statusError struct {
	status     int
	code       string // of the protocol, "MANIFEST_UNKNOWN", or ""
	message    string // of the registry
	retryAfter time.Duration
	advice     string
	class      error
}

// Error is "404 manifest unknown: check the name and the tag".
func (e *statusError) Error() string {
	text := e.message
	if text == "" {
		text = strings.ToLower(strings.ReplaceAll(e.code, "_", " "))
	}
	if text == "" {
		text = strings.ToLower(http.StatusText(e.status))
	}
	s := fmt.Sprintf("%d %s", e.status, text)
	if e.advice != "" {
		s += ": " + e.advice
	}
	return s
}

func (e *statusError) Unwrap() error { return e.class }

// errorBodyLimit is what is read of an error's body.
const errorBodyLimit = 64 << 10

// answerError reads the error in an answer and closes it. object is "manifest",
// "blob" and so on, for answers without a body.
func answerError(resp *http.Response, object string, now time.Time) *statusError {
	defer resp.Body.Close()
	body, _ := io.ReadAll(io.LimitReader(resp.Body, errorBodyLimit))
	e := &statusError{status: resp.StatusCode, retryAfter: parseRetryAfter(resp.Header.Get("Retry-After"), now)}
	e.code, e.message = parseErrorBody(body)
	if e.status == http.StatusNotFound && e.message == "" && object != "" {
		e.message = object + " unknown"
	}
	e.class, e.advice = classify(e, resp.Header)
	return e
}

// parseErrorBody reads the protocol's error document, or that of a token
// server; anything else is not worth showing.
func parseErrorBody(body []byte) (code, message string) {
	var doc struct {
		Errors []struct {
			Code    string          `json:"code"`
			Message string          `json:"message"`
			Detail  json.RawMessage `json:"detail"`
		} `json:"errors"`
		Details string `json:"details"`
		Message string `json:"message"`
		Error   string `json:"error_description"`
	}
	if json.Unmarshal(body, &doc) != nil {
		return "", ""
	}
	if len(doc.Errors) > 0 {
		first := doc.Errors[0]
		return oneLine(first.Code), oneLine(first.Message)
	}
	for _, m := range []string{doc.Details, doc.Error, doc.Message} {
		if m != "" {
			return "", oneLine(m)
		}
	}
	return "", ""
}

// oneLine makes foreign text fit for a message.
func oneLine(s string) string {
	const limit = 300
	s = strings.Join(strings.FieldsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f || r == ' ' }), " ")
	if len(s) > limit {
		s = s[:limit] + "…"
	}
	return strings.ToValidUTF8(s, "?")
}

// classify decides the class of an answer, and what to advise.
func classify(e *statusError, header http.Header) (class error, advice string) {
	switch {
	case e.status == http.StatusTooManyRequests || e.code == "TOOMANYREQUESTS":
		return errdefs.ErrResourceExhausted, rateLimitAdvice(e.retryAfter, header)
	case e.code == "DIGEST_INVALID" || e.code == "SIZE_INVALID":
		return errdefs.ErrDataLoss, ""
	case e.status == http.StatusUnauthorized:
		return errdefs.ErrUnauthenticated, ""
	case e.status == http.StatusForbidden:
		return errdefs.ErrPermissionDenied, "the account has no access, or the repository does not exist"
	case e.status == http.StatusNotFound:
		if strings.Contains(e.message, "manifest") || strings.HasPrefix(e.code, "MANIFEST") || strings.HasPrefix(e.code, "NAME") {
			advice = "check the name and the tag"
		}
		return errdefs.ErrNotFound, advice
	case e.status == http.StatusMethodNotAllowed || e.code == "UNSUPPORTED":
		return errdefs.ErrNotImplemented, "the registry does not allow this; it may be read-only"
	case e.status == http.StatusRequestEntityTooLarge:
		return errdefs.ErrInvalidArgument, "the registry (or a proxy before it) limits the size: try smaller chunks"
	case e.status >= 500 || e.status == http.StatusRequestTimeout:
		return errdefs.ErrUnavailable, ""
	case e.status >= 400:
		return errdefs.ErrInvalidArgument, ""
	}
	return errdefs.ErrUnavailable, "not an answer of a registry: check the address"
}

// rateLimitAdvice explains a refusal for too many requests. Docker Hub tells
// its limit as "ratelimit-limit: 100;w=21600".
func rateLimitAdvice(retryAfter time.Duration, header http.Header) string {
	advice := "the rate limit of the registry is used up"
	if limit, window, ok := parseRateLimit(header.Get("RateLimit-Limit")); ok {
		advice += fmt.Sprintf(" (%d requests in %s)", limit, window)
	}
	if retryAfter > 0 {
		advice += ", try again in " + retryAfter.String()
	}
	return advice + "; logging in or a mirror in hosts.toml raises it"
}

// connectionError is a connection that failed, with what can be done about it.
func connectionError(err error, e *endpoint) error {
	message := cause(err)
	var unknown x509.UnknownAuthorityError
	var verify *tls.CertificateVerificationError
	switch {
	case errors.Is(err, http.ErrSchemeMismatch):
		message = fmt.Sprintf("the host speaks plain HTTP: write server = \"http://%s\" into its hosts.toml, or use --plain-http", e.host)
	case errors.As(err, &unknown):
		message += fmt.Sprintf(": name the authority as ca in hosts.toml of %s, or use --skip-verify", e.domain)
	case errors.As(err, &verify):
		message += ": use another name or certificate, or --skip-verify"
	case e.pool != nil && e.pool.askedForCertificate.Load() && connectionFault(err) == faultBroken:
		message += fmt.Sprintf(": the host asks for a client certificate: name one as client in hosts.toml of %s", e.domain)
	}
	return &problem{message: message, class: errdefs.ErrUnavailable, inner: err}
}

// cause is the innermost text of a connection's error: "connection refused"
// instead of the whole chain.
func cause(err error) string {
	var errno syscall.Errno
	var dns *net.DNSError
	var u *url.Error
	switch {
	case errors.Is(err, errStalled):
		return errStalled.Error()
	case errors.Is(err, context.DeadlineExceeded):
		return "timed out"
	case errors.As(err, &errno):
		return errno.Error()
	case errors.As(err, &dns):
		return "look up " + dns.Name + ": " + dns.Err
	case errors.As(err, &u):
		return cause(u.Err)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "the connection was cut"
	}
	return strings.TrimPrefix(strings.TrimPrefix(err.Error(), "tls: "), "failed to verify certificate: ")
}
