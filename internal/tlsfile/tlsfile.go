// Package tlsfile keeps a server's certificate, its key and the authority of its clients in step with their files: they
// are read again when they change, so that a certificate is renewed without a restart. What a client has is read once, by
// the client.
package tlsfile

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/containerd/errdefs"
)

// state tells whether a file has changed. A link that leads to another file has, and so has a file that was replaced by
// one of the same moment and size.
type state struct {
	size     int64
	modified time.Time
	inode    uint64
}

func stateOf(path string) state {
	i, err := os.Stat(path)
	if err != nil {
		return state{}
	}
	s := state{size: i.Size(), modified: i.ModTime()}
	if st, ok := i.Sys().(*syscall.Stat_t); ok {
		s.inode = st.Ino
	}
	return s
}

// cached is what was read from some files. What is half replaced, or spoiled, leaves the last good value in use, and is
// told once.
type cached[T any] struct {
	files []string
	read  func() (T, error)
	warn  func(error)

	mu      sync.Mutex
	current T
	states  []state // that current, or the last failure, was read at
}

func open[T any](read func() (T, error), warn func(error), files ...string) (*cached[T], error) {
	c := &cached[T]{files: files, read: read, warn: warn}
	return c, c.load(c.look())
}

func (c *cached[T]) look() []state {
	var all []state
	for _, f := range c.files {
		all = append(all, stateOf(f))
	}
	return all
}

func (c *cached[T]) load(now []state) error {
	c.states = now // of before the reading: a change during it is seen next time
	v, err := c.read()
	if err != nil {
		return err
	}
	c.current = v
	return nil
}

func (c *cached[T]) get() T {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.look()
	for i := range now {
		if now[i] != c.states[i] {
			if err := c.load(now); err != nil {
				c.warn(err)
			}
			break
		}
	}
	return c.current
}

// Pair is a certificate and its key, in PEM files.
type Pair struct{ files *cached[*tls.Certificate] }

// OpenPair reads them. warn is told of a later pair that cannot be used.
func OpenPair(certFile, keyFile string, warn func(error)) (*Pair, error) {
	files, err := open(func() (*tls.Certificate, error) { return ReadPair(certFile, keyFile) }, warn, certFile, keyFile)
	if err != nil {
		return nil, err
	}
	return &Pair{files}, nil
}

// Get is tls.Config's GetCertificate.
func (p *Pair) Get(*tls.ClientHelloInfo) (*tls.Certificate, error) { return p.files.get(), nil }

// Mutual is the configuration of a server that lets in only clients with a certificate of the authority in caFile. The
// protocols are those of ALPN (RFC 7301).
func Mutual(certFile, keyFile, caFile string, warn func(error), protocols ...string) (*tls.Config, error) {
	pair, err := OpenPair(certFile, keyFile, warn)
	if err != nil {
		return nil, err
	}
	clients, err := open(func() (*x509.CertPool, error) { return ReadAuthorities(caFile) }, warn, caFile)
	if err != nil {
		return nil, err
	}
	config := func() *tls.Config {
		return &tls.Config{
			MinVersion: tls.VersionTLS13, NextProtos: protocols, GetCertificate: pair.Get,
			ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: clients.get(),
			SessionTicketsDisabled: true, // a resumed session would be let in by an authority that is no longer here
		}
	}
	outer := config()
	outer.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) { return config(), nil }
	return outer, nil
}

// ReadPair reads a certificate and its key.
func ReadPair(certFile, keyFile string) (*tls.Certificate, error) {
	c, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		return nil, fmt.Errorf("tls: certificate %s with key %s: %w: %w", certFile, keyFile, err, errdefs.ErrInvalidArgument)
	}
	return &c, nil
}

// ReadAuthorities reads certificates that others may be signed by.
func ReadAuthorities(file string) (*x509.CertPool, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("tls: authority: %w: %w", err, errdefs.ErrInvalidArgument)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(data) {
		return nil, fmt.Errorf("tls: authority %s: there is no certificate in PEM in it: %w", file, errdefs.ErrInvalidArgument)
	}
	return pool, nil
}
