// Package outside publishes ports where a daemon in a network namespace of a user's own cannot: on the host, by the
// program that made the namespace, rootlesskit, which has a service for it (its API version 1, pkg/api/openapi.yaml).
package outside

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/containerd/errdefs"

	"github.com/minirt/mini/runtime/network"
)

// Kit is rootlesskit's service.
type Kit struct {
	client http.Client
	mu     sync.Mutex // one change at a time
	kept   []network.Port
	shown  []network.Port // of the last Publish
}

// FromEnvironment is the service of the rootlesskit that runs this program; nil without one.
func FromEnvironment() *Kit {
	dir := os.Getenv("ROOTLESSKIT_STATE_DIR")
	if dir == "" {
		return nil
	}
	return New(filepath.Join(dir, "api.sock"))
}

// New is the service at a socket.
func New(socket string) *Kit {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}
	return &Kit{client: http.Client{Transport: &http.Transport{DialContext: dial, MaxIdleConns: 1, IdleConnTimeout: time.Second}, Timeout: timeout}}
}

// timeout is for one question: opening a port takes no time.
const timeout = 10 * time.Second

// spec is a port as rootlesskit has it.
type spec struct {
	Proto      string `json:"proto"`
	ParentIP   string `json:"parentIP,omitempty"`
	ParentPort int    `json:"parentPort"`
	ChildPort  int    `json:"childPort"`
}

// entry is a port that is open.
type entry struct {
	ID   int  `json:"id"`
	Spec spec `json:"spec"`
}

// Keep opens a port of the daemon's own beside those of containers.
func (k *Kit) Keep(ctx context.Context, p network.Port) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.kept = append(k.kept, p)
	return k.publish(ctx)
}

// Publish makes these the ports that are open on the host, each led to the same one in here. sctp stays inside.
func (k *Kit) Publish(ctx context.Context, ports []network.Port) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.shown = ports
	return k.publish(ctx)
}

func (k *Kit) publish(ctx context.Context) error {
	ports := slices.Concat(k.kept, k.shown)
	var open []entry
	if err := k.ask(ctx, http.MethodGet, "ports", nil, &open); err != nil {
		return fmt.Errorf("ports of the host: %w", err)
	}
	missing, extra := plan(ports, open)
	var errs []error
	for _, e := range extra {
		errs = append(errs, k.ask(ctx, http.MethodDelete, fmt.Sprintf("ports/%d", e.ID), nil, nil))
	}
	for _, s := range missing {
		if err := k.ask(ctx, http.MethodPost, "ports", s, nil); err != nil {
			errs = append(errs, fmt.Errorf("publish port %d on the host: %w", s.ParentPort, err))
		}
	}
	return errors.Join(errs...)
}

// plan says which ports are to be opened, and which to be closed.
func plan(ports []network.Port, open []entry) (missing []spec, extra []entry) {
	wanted := map[spec]bool{}
	var order []spec
	for _, p := range ports {
		s := specOf(p)
		if p.HostPort != 0 && s.Proto != "sctp" && !wanted[s] {
			wanted[s] = true
			order = append(order, s)
		}
	}
	have := map[spec]bool{}
	for _, e := range open {
		if !wanted[e.Spec] || have[e.Spec] {
			extra = append(extra, e)
			continue
		}
		have[e.Spec] = true
	}
	for _, s := range order {
		if !have[s] {
			missing = append(missing, s)
		}
	}
	return missing, extra
}

func specOf(p network.Port) spec {
	s := spec{Proto: p.Protocol, ParentIP: "0.0.0.0", ParentPort: int(p.HostPort), ChildPort: int(p.HostPort)}
	if s.Proto == "" {
		s.Proto = "tcp"
	}
	if p.HostIP.Is4() || p.HostIP.Is6() && !p.HostIP.IsUnspecified() {
		s.ParentIP = p.HostIP.String()
	}
	return s
}

// ask makes one request. An answer that is no success is unavailable, with the service's words.
func (k *Kit) ask(ctx context.Context, method, path string, body, answer any) error {
	var data io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return err
		}
		data = bytes.NewReader(text)
	}
	request, err := http.NewRequestWithContext(ctx, method, "http://rootlesskit/v1/"+path, data)
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := k.client.Do(request)
	if err != nil {
		return fmt.Errorf("rootlesskit: %w: %w", err, errdefs.ErrUnavailable)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	if err != nil {
		return fmt.Errorf("rootlesskit: %w: %w", err, errdefs.ErrUnavailable)
	}
	if response.StatusCode/100 != 2 {
		var told struct{ Message string }
		if json.Unmarshal(text, &told) != nil || told.Message == "" {
			told.Message = strings.TrimSpace(string(text))
		}
		return fmt.Errorf("rootlesskit: %s: %w", told.Message, errdefs.ErrUnavailable)
	}
	if answer == nil {
		return nil
	}
	if err := json.Unmarshal(text, answer); err != nil {
		return fmt.Errorf("rootlesskit: its answer: %w: %w", err, errdefs.ErrUnavailable)
	}
	return nil
}

// maxAnswer bounds an answer, in bytes.
const maxAnswer = 4 << 20
