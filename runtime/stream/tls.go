package stream

import (
	"crypto/tls"
	"fmt"
	"log/slog"

	"github.com/containerd/errdefs"

	"github.com/minirt/mini/internal/tlsfile"
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
	p, err := tlsfile.OpenPair(certFile, keyFile, func(err error) { log.Warn("the streaming server keeps its old certificate", "error", err) })
	if err != nil {
		return nil, err
	}
	return &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}, GetCertificate: p.Get}, nil
}
