package outside

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/containerd/errdefs"

	"github.com/minirt/mini/runtime/network"
)

// kit is a rootlesskit that opens nothing.
type kit struct {
	mu   sync.Mutex
	next int
	open []entry
}

func (k *kit) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	k.mu.Lock()
	defer k.mu.Unlock()
	switch {
	case r.Method == http.MethodGet && r.URL.Path == "/v1/ports":
		_ = json.NewEncoder(w).Encode(k.open)
	case r.Method == http.MethodPost && r.URL.Path == "/v1/ports":
		var s spec
		if err := json.NewDecoder(r.Body).Decode(&s); err != nil || s.ParentPort < 1024 {
			w.WriteHeader(http.StatusInternalServerError)
			fmt.Fprintf(w, `{"message":"cannot expose privileged port %d"}`, s.ParentPort)
			return
		}
		k.next++
		k.open = append(k.open, entry{k.next, s})
		w.WriteHeader(http.StatusCreated)
		_ = json.NewEncoder(w).Encode(k.open[len(k.open)-1])
	case r.Method == http.MethodDelete:
		k.open = slices.DeleteFunc(k.open, func(e entry) bool { return fmt.Sprintf("/v1/ports/%d", e.ID) == r.URL.Path })
	default:
		w.WriteHeader(http.StatusNotFound)
	}
}

func TestPublish(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	service := &kit{}
	server := &http.Server{Handler: service}
	go func() { _ = server.Serve(l) }()
	k := New(socket)
	open := func() (list []string) {
		for _, e := range service.open {
			list = append(list, fmt.Sprintf("%s %s:%d>%d", e.Spec.Proto, e.Spec.ParentIP, e.Spec.ParentPort, e.Spec.ChildPort))
		}
		slices.Sort(list)
		return list
	}
	web := network.Port{HostPort: 8080, ContainerPort: 80}
	local := network.Port{Protocol: "udp", HostIP: netip.MustParseAddr("127.0.0.1"), HostPort: 5353, ContainerPort: 53}
	for _, step := range []struct {
		ports []network.Port
		want  string
	}{
		{[]network.Port{web, local, web, {Protocol: "sctp", HostPort: 9, ContainerPort: 9}, {ContainerPort: 7}}, "tcp 0.0.0.0:8080>8080,udp 127.0.0.1:5353>5353"},
		{[]network.Port{web}, "tcp 0.0.0.0:8080>8080"},
		{[]network.Port{{HostIP: netip.IPv6Unspecified(), HostPort: 8080, ContainerPort: 80}}, "tcp 0.0.0.0:8080>8080"},
		{nil, ""},
	} {
		if err := k.Publish(t.Context(), step.ports); err != nil {
			t.Errorf("%v: %v", step.ports, err)
		}
		if got := strings.Join(open(), ","); got != step.want {
			t.Errorf("%v: %s are open, want %s", step.ports, got, step.want)
		}
	}
	if err := k.Publish(t.Context(), []network.Port{{HostPort: 80, ContainerPort: 80}}); !errdefs.IsUnavailable(err) || !strings.Contains(err.Error(), "cannot expose privileged port 80") {
		t.Errorf("a port that is refused: %v", err)
	}
	if err := server.Close(); err != nil {
		t.Fatal(err)
	}
	if err := k.Publish(t.Context(), nil); !errdefs.IsUnavailable(err) {
		t.Errorf("a service that is gone: %v", err)
	}
}

func TestFromEnvironment(t *testing.T) {
	t.Setenv("ROOTLESSKIT_STATE_DIR", "")
	if FromEnvironment() != nil {
		t.Error("there is a service without rootlesskit")
	}
	t.Setenv("ROOTLESSKIT_STATE_DIR", "/x")
	if FromEnvironment() == nil {
		t.Error("there is no service with rootlesskit")
	}
}
