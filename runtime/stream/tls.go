package stream

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/containerd/errdefs"
)

// tlsConfig serves a certificate from its files; nil when there are none. HTTP/2 is not offered: its connections cannot
// be taken over.
func tlsConfig(certFile, keyFile string, log *slog.Logger) (*tls.Config, error) {
	if certFile == "" && keyFile == "" {
		return nil, nil
	}
	if certFile == "" || keyFile == "" {
		return nil, fmt.Errorf("tls: name both the certificate and the key: %w", errdefs.ErrInvalidArgument)
	}
	p := &keyPair{certFile: certFile, keyFile: keyFile, log: log}
	if err := p.load(); err != nil {
		return nil, err
	}
	return &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}, GetCertificate: p.get}, nil
}

// keyPair is a certificate, read again when one of its files has changed.
type keyPair struct {
	certFile, keyFile string
	log               *slog.Logger

	mu        sync.Mutex
	current   *tls.Certificate
	cert, key fileState // that current, or the last failure, was read at
}

type fileState struct {
	size     int64
	modified time.Time
}

func stateOf(path string) fileState {
	i, err := os.Stat(path)
	if err != nil {
		return fileState{}
	}
	return fileState{size: i.Size(), modified: i.ModTime()}
}

// get is asked at each handshake. A pair that is half replaced, or spoiled, leaves the last good one in use.
func (p *keyPair) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cert != stateOf(p.certFile) || p.key != stateOf(p.keyFile) {
		if err := p.load(); err != nil {
			p.log.Warn("the streaming server keeps its old certificate", "error", err)
		}
	}
	return p.current, nil
}

func (p *keyPair) load() error {
	p.cert, p.key = stateOf(p.certFile), stateOf(p.keyFile) // before reading: a change during it is seen next time
	c, err := tls.LoadX509KeyPair(p.certFile, p.keyFile)
	if err != nil {
		return fmt.Errorf("tls: certificate %s with key %s: %w: %w", p.certFile, p.keyFile, err, errdefs.ErrInvalidArgument)
	}
	p.current = &c
	return nil
}
