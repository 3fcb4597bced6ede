package daemon

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"

	"github.com/minirt/mini/internal/grpcx"
	"github.com/minirt/mini/internal/tlsfile"
)

// openRemote listens for clients on other machines, where the configuration wants that.
func (d *Daemon) openRemote(context.Context) error {
	c := d.Config.API
	if c.TCP == "" {
		return nil
	}
	var secure *tls.Config
	if !c.Insecure {
		var err error
		secure, err = tlsfile.Mutual(c.TLSCert, c.TLSKey, c.TLSCA, func(err error) {
			d.Log.Warn("the API keeps its old certificate, or its old authority", "error", err)
		}, "h2")
		if err != nil {
			return err
		}
	}
	l, err := net.Listen("tcp", c.TCP)
	if err != nil {
		return fmt.Errorf("api.tcp: %w: choose another address or port", err)
	}
	d.remote, d.peers = l, grpcx.NewRemoteCredentials(secure, d.Log)
	d.closers.Add(func(context.Context) error {
		if err := l.Close(); !errors.Is(err, net.ErrClosed) {
			return err
		}
		return nil
	})
	return nil
}

// serve answers on all listeners; each end of one is sent.
func (d *Daemon) serve() <-chan error {
	listeners := []net.Listener{d.listener}
	if d.remote != nil {
		listeners = append(listeners, d.remote)
		d.Log.Info("serving clients on other machines", "address", d.remote.Addr().String(), "tls", !d.Config.API.Insecure)
	}
	served := make(chan error, len(listeners))
	for _, l := range listeners {
		go func() {
			if err := d.grpc.Serve(l); err != nil {
				served <- fmt.Errorf("serve %s: %w", l.Addr(), err)
				return
			}
			served <- nil
		}()
	}
	return served
}
