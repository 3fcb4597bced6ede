package registry

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"github.com/minirt/mini/oci/name"
	"github.com/opencontainers/go-digest"
)

// Options configure a Client. The zero value asks registries directly, with
// Docker's credentials and the default retries.
type Options struct {
	// HostsDirs are directories laid out as containerd's certs.d. The first one
	// that has a directory for the registry (or _default) decides.
	HostsDirs []string
	// RegistriesConf is a containers-registries.conf(5) of version 2; with its directory RegistriesConf.d it says where
	// the content of a repository is had. How a host is reached is HostsDirs' matter in any case. "": none.
	RegistriesConf string
	// DockerConfig is Docker's config.json or the directory that has it; "" is
	// $DOCKER_CONFIG, else ~/.docker.
	DockerConfig string
	// Override is what a user asks for on top of the configuration.
	Override  *HostOverride
	Retry     Retry
	UserAgent string
	Logger    *slog.Logger // nil discards
	// Trace logs each request and its answer at level Info, without secrets.
	Trace bool
}

// HostOverride is what one request says about the registry. SkipVerify, CA,
// Cert and Key apply to every host; PlainHTTP to the registry itself.
type HostOverride struct {
	SkipVerify, PlainHTTP bool
	// Username and Password, or IdentityToken (an OAuth2 refresh token), or
	// RegistryToken (a bearer token sent as it is).
	Username, Password, IdentityToken, RegistryToken string
	// Host is the only host[:port] that is shown these credentials. "" is the
	// registry of the reference; its mirrors are never shown them.
	Host string
	// CA, Cert and Key are paths of PEM files; "" Key means it is in Cert.
	CA, Cert, Key string
}

// Retry says how patiently a host is asked.
type Retry struct {
	Attempts int           // requests to the last host before giving up; default 5 (mirrors fail over sooner)
	Base     time.Duration // first pause, doubled each time, with jitter; default 250 ms
	Max      time.Duration // longest pause; default 10 s
	MaxAsked time.Duration // longest Retry-After that is waited for; default 60 s
	Stall    time.Duration // silence after which a connection counts as broken; default 60 s
}

func (r Retry) withDefaults() Retry {
	set := func(d *time.Duration, v time.Duration) {
		if *d <= 0 {
			*d = v
		}
	}
	if r.Attempts <= 0 {
		r.Attempts = 5
	}
	set(&r.Base, 250*time.Millisecond)
	set(&r.Max, 10*time.Second)
	set(&r.MaxAsked, time.Minute)
	set(&r.Stall, time.Minute)
	return r
}

// Client asks registries. It is safe for concurrent use; connections and
// tokens are shared by its operations. Close it when done.
type Client struct {
	opts     Options
	override HostOverride
	retries  Retry
	log      *slog.Logger
	sleep    func(context.Context, time.Duration) error

	transports transports
	auth       authorizer

	mu        sync.Mutex
	rejected  map[rejection]bool
	outages   map[string]outage
	fallbacks sync.Mutex // serialises updates of referrers tags
}

// rejection is content that a host delivered and that was found to be wrong.
type rejection struct {
	digest digest.Digest
	host   string
}

// New makes a client. Nothing is read or contacted before the first request.
func New(o Options) *Client {
	c := &Client{opts: o, retries: o.Retry.withDefaults(), log: o.Logger, sleep: sleep, rejected: map[rejection]bool{}, outages: map[string]outage{}}
	if o.Override != nil {
		c.override = *o.Override
	}
	if c.log == nil {
		c.log = slog.New(slog.DiscardHandler)
	}
	if c.opts.UserAgent == "" {
		c.opts.UserAgent = "mini"
	}
	return c
}

// Close closes the idle connections. The client can still be used.
func (c *Client) Close() { c.transports.closeIdle() }

// endpoints are the hosts for a reference that have a capability, ready to be
// asked, in order.
func (c *Client) endpoints(ref name.Ref, need Capability) ([]*endpoint, error) {
	return c.endpointsOf(ref.Domain(), ref.Path(), ref.Digest() != "", need)
}

// endpointsOf are those of a repository, or of a whole registry when path is "".
func (c *Client) endpointsOf(domain, path string, byDigest bool, need Capability) ([]*endpoint, error) {
	all, source, err := c.planned(domain, path, byDigest)
	if err != nil {
		return nil, err
	}
	if all = with(all, need); len(all) == 0 {
		return nil, fmt.Errorf("no host of %s has the capability %q: add it to one in %s: %w", domain, need, source, errdefs.ErrFailedPrecondition)
	}
	for _, e := range all {
		if err := c.connect(e); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// planned are all hosts of a repository, and the last file that had a say.
func (c *Client) planned(domain, path string, byDigest bool) (all []*endpoint, source string, err error) {
	conf, err := loadRegistries(c.opts.RegistriesConf)
	if err != nil {
		return nil, c.opts.RegistriesConf, err
	}
	places, err := conf.places(domain, path, byDigest)
	if err != nil {
		return nil, conf.source, err
	}
	for _, p := range places {
		file, from, err := loadHosts(c.opts.HostsDirs, p.domain)
		if err != nil {
			return nil, from, err
		}
		for _, e := range plan(p.domain, file, from, c.override) {
			p.applyTo(e, domain)
			if e.source == "" && (p.mirror || p.domain != domain || p.path != path) {
				e.source = conf.source
			}
			all = append(all, e)
		}
		source = from
	}
	return all, source, nil
}

// failOver asks one host after the other until one of them succeeds.
func (c *Client) failOver(ctx context.Context, stage, object string, hosts []*endpoint, ask func(e *endpoint, p patience) error) error {
	failure := &Error{Stage: stage, Object: object}
	for i, e := range hosts {
		last := i == len(hosts)-1
		if err := c.passOver(e, last); err != nil {
			failure.add(e, err)
			continue
		}
		err := ask(e, c.patience(last))
		if err == nil {
			return nil
		}
		failure.add(e, err)
		c.noteOutage(e, err)
		if ctx.Err() != nil {
			break
		}
		if !last {
			c.log.InfoContext(ctx, "registry host failed, trying the next", "stage", stage, "object", object, "host", e.label(), "error", err)
		}
	}
	return failure
}

// newCall makes a call that belongs to a repository.
func newCall(method string, e *endpoint, ref name.Ref, path, actions string) *call {
	return &call{method: method, url: e.url() + "/" + e.repository(ref) + path, scope: "repository:" + e.repository(ref) + ":" + actions}
}

// readLimited reads a file of at most limit bytes.
func readLimited(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return readAll(f, limit, path)
}

// readAll reads at most limit bytes; more is ErrInvalidArgument.
func readAll(r io.Reader, limit int64, what string) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("%s is larger than %d bytes: %w", what, limit, errdefs.ErrInvalidArgument)
	}
	return data, nil
}

// discard reads the rest of a small answer, so that the connection is used
// again, and closes it.
func discard(resp *http.Response) {
	_, _ = io.CopyN(io.Discard, resp.Body, 64<<10)
	_ = resp.Body.Close()
}
