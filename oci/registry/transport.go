package registry

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"github.com/containerd/errdefs"
)

// pemLimit bounds certificate files: a whole system bundle is below 1 MiB.
const pemLimit = 8 << 20

// material is everything that makes two hosts need different connections,
// with the files read: a changed certificate is a new key.
type material struct {
	authorities [][]byte
	clients     [][2][]byte
	skipVerify  bool
	dialTimeout time.Duration
	proxy       *url.URL
	fallback    bool
	host        string
}

func readMaterial(h hostConfig) (material, error) {
	m := material{skipVerify: h.skipVerify != nil && *h.skipVerify, dialTimeout: h.dialTimeout, proxy: h.proxy, host: h.host}
	read := func(path string) ([]byte, error) {
		data, err := readLimited(path, pemLimit)
		if err != nil {
			return nil, fmt.Errorf("certificates for %s: %w", h.host, err)
		}
		return data, nil
	}
	for _, path := range h.ca {
		data, err := read(path)
		if err != nil {
			return m, err
		}
		m.authorities = append(m.authorities, data)
	}
	for _, pair := range h.clients {
		cert, err := read(pair.cert)
		if err != nil {
			return m, err
		}
		key := cert
		if pair.key != "" {
			if key, err = read(pair.key); err != nil {
				return m, err
			}
		}
		m.clients = append(m.clients, [2][]byte{cert, key})
	}
	return m, nil
}

// key identifies the material by its content.
func (m material) key() [32]byte {
	h := sha256.New()
	part := func(b []byte) { fmt.Fprintf(h, "%d:", len(b)); h.Write(b) }
	for _, a := range m.authorities {
		part(a)
	}
	for _, c := range m.clients {
		part([]byte("client"))
		part(c[0])
		part(c[1])
	}
	fmt.Fprint(h, m.skipVerify, m.fallback, m.dialTimeout, m.proxy, m.host)
	return [32]byte(h.Sum(nil))
}

func (m material) tlsConfig(h hostConfig) (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: m.skipVerify}
	if len(m.authorities) > 0 {
		pool, err := x509.SystemCertPool()
		if err != nil {
			pool = x509.NewCertPool()
		}
		for i, data := range m.authorities {
			if !pool.AppendCertsFromPEM(data) {
				return nil, fmt.Errorf("ca %s: there is no PEM certificate in it: %w", h.ca[i], errdefs.ErrInvalidArgument)
			}
		}
		config.RootCAs = pool
	}
	for i, pair := range m.clients {
		cert, err := tls.X509KeyPair(pair[0], pair[1])
		if err != nil {
			return nil, fmt.Errorf("client certificate %s: %v: %w", h.clients[i].cert, err, errdefs.ErrInvalidArgument)
		}
		config.Certificates = append(config.Certificates, cert)
	}
	return config, nil
}

// transports keeps one connection pool per distinct material.
type transports struct {
	mu    sync.Mutex
	pools map[[32]byte]*pool
}

type pool struct {
	http.RoundTripper
	// askedForCertificate: the host asked for a client certificate and there is none. With TLS 1.3 its
	// refusal arrives after the handshake, mostly as a connection that was reset.
	askedForCertificate atomic.Bool
}

// plain says that the host turned out not to speak HTTPS.
func (p *pool) plain(host string) bool {
	fallback, ok := p.RoundTripper.(*schemeFallback)
	return ok && fallback.isPlain(host)
}

func (t *transports) closeIdle() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, p := range t.pools {
		if c, ok := p.RoundTripper.(interface{ CloseIdleConnections() }); ok {
			c.CloseIdleConnections()
		}
	}
}

// connect gives the endpoint its HTTP client. No connection is made.
func (c *Client) connect(e *endpoint) error {
	m, err := readMaterial(e.hostConfig)
	if err != nil {
		return err
	}
	m.fallback = e.fallback
	key := m.key()
	c.transports.mu.Lock()
	defer c.transports.mu.Unlock()
	p := c.transports.pools[key]
	if p == nil {
		if p, err = newPool(m, e.hostConfig); err != nil {
			return err
		}
		if c.transports.pools == nil {
			c.transports.pools = map[[32]byte]*pool{}
		}
		c.transports.pools[key] = p
	}
	e.pool = p
	e.client = &http.Client{Transport: p.RoundTripper, CheckRedirect: checkRedirect(e)}
	return nil
}

func newPool(m material, h hostConfig) (*pool, error) {
	config, err := m.tlsConfig(h)
	if err != nil {
		return nil, err
	}
	p := &pool{}
	if len(config.Certificates) == 0 {
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			p.askedForCertificate.Store(true)
			return &tls.Certificate{}, nil
		}
	}
	p.RoundTripper = newTransport(m, config)
	if m.fallback {
		p.RoundTripper = &schemeFallback{next: p.RoundTripper, plain: map[string]bool{}}
	}
	return p, nil
}

func newTransport(m material, config *tls.Config) *http.Transport {
	timeout := m.dialTimeout
	if timeout == 0 {
		timeout = 30 * time.Second
	}
	proxy := http.ProxyFromEnvironment
	if m.proxy != nil {
		proxy = http.ProxyURL(m.proxy)
	}
	return &http.Transport{
		Proxy:               proxy,
		DialContext:         (&net.Dialer{Timeout: timeout, KeepAlive: 30 * time.Second}).DialContext,
		TLSClientConfig:     config,
		TLSHandshakeTimeout: 10 * time.Second,
		ForceAttemptHTTP2:   true,
		MaxIdleConnsPerHost: 8,
		IdleConnTimeout:     30 * time.Second,
		DisableCompression:  true, // digests and offsets are of the bytes as they are
	}
}

// maxRedirects is what browsers allow, halved.
const maxRedirects = 10

// checkRedirect keeps what identifies us from other hosts. net/http would
// forward credentials to sub-domains and to other ports of the same host.
func checkRedirect(e *endpoint) func(*http.Request, []*http.Request) error {
	return func(req *http.Request, via []*http.Request) error {
		if len(via) >= maxRedirects {
			return fmt.Errorf("more than %d redirects: %w", maxRedirects, errdefs.ErrUnavailable)
		}
		first := via[0].URL
		if e.fallback && req.URL.Scheme == "http" && req.URL.Host == first.Host {
			req.URL.Scheme = first.Scheme // the host names the scheme it was reached by
		}
		if first.Scheme == "https" && req.URL.Scheme != "https" && !isLoopback(req.URL.Host) {
			return fmt.Errorf("redirected from https to %s://%s: refused: %w", req.URL.Scheme, req.URL.Host, errdefs.ErrFailedPrecondition)
		}
		if !sameHost(first, req.URL) {
			req.Header.Del("Authorization")
			req.Header.Del("Cookie")
			req.Header.Del("Referer")
			for key := range e.header {
				req.Header.Del(key)
			}
		}
		return nil
	}
}

// sameHost compares scheme, name and port.
func sameHost(a, b *url.URL) bool {
	return a.Scheme == b.Scheme && a.Hostname() == b.Hostname() && portOf(a) == portOf(b)
}

func portOf(u *url.URL) string {
	switch {
	case u.Port() != "":
		return u.Port()
	case u.Scheme == "https":
		return "443"
	}
	return "80"
}

// schemeFallback speaks plain HTTP with hosts that turned out not to speak
// HTTPS.
type schemeFallback struct {
	next  http.RoundTripper
	mu    sync.Mutex
	plain map[string]bool
}

// RoundTrip tries HTTPS until a host was seen to answer it with plain HTTP.
func (s *schemeFallback) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.URL.Scheme != "https" || !s.isPlain(req.URL.Host) {
		resp, err := s.next.RoundTrip(req)
		if err == nil || req.URL.Scheme != "https" || !speaksPlainHTTP(err) {
			return resp, err
		}
		s.mu.Lock()
		s.plain[req.URL.Host] = true
		s.mu.Unlock()
		if req.Body != nil && req.Body != http.NoBody {
			if req.GetBody == nil {
				return nil, err
			}
			body, err := req.GetBody()
			if err != nil {
				return nil, err
			}
			req = req.WithContext(req.Context()) // a RoundTripper must not change the request it was given
			req.Body = body
		}
	}
	again := req.Clone(req.Context())
	again.URL.Scheme = "http"
	resp, err := s.next.RoundTrip(again)
	if err == nil {
		resp.Request = req
	}
	return resp, err
}

func (s *schemeFallback) isPlain(host string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.plain[host]
}

// CloseIdleConnections is what http.Client looks for.
func (s *schemeFallback) CloseIdleConnections() {
	if c, ok := s.next.(interface{ CloseIdleConnections() }); ok {
		c.CloseIdleConnections()
	}
}

func speaksPlainHTTP(err error) bool {
	var record tls.RecordHeaderError
	return errors.Is(err, http.ErrSchemeMismatch) || errors.As(err, &record)
}
