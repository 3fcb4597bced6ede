package testenv

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// runtimeEnv names the runtime that tests of the CRI use: minid or containerd. It is for looking whether a test, or an
// image, is right where minid is not.
const runtimeEnv = "MINI_CRI"

// SuiteBusybox is the image that the conformance suite, and most tests here, run.
const SuiteBusybox = "registry.k8s.io/e2e-test-images/busybox:1.29-2"

// CRIOptions says what kind of runtime a test wants.
type CRIOptions struct {
	Runtime string // minid or containerd; empty: what MINI_CRI says, else minid

	CNI    []CNIPlugin // the pods' network; nil: the built-in one (containerd: bridge and portmap)
	Scope  string      // of supervisors; empty: node
	Config string      // more of minid's configuration
	Top    string
	Env    []string

	InNetwork bool            // the test has called Network itself
	Registry  *RegistryServer // nil: one of its own
}

// CRIServer is a runtime with its CRI, the suite's registries, and a client, all in a network namespace of the test.
type CRIServer struct {
	*CRI
	Registry   *RegistryServer
	Daemon     *DaemonProcess // nil with containerd
	Containerd *Containerd    // nil with minid
	CNIDir     string
}

// CRIRuntime names the runtime that StartCRI starts.
func CRIRuntime(t testing.TB) string {
	t.Helper()
	switch name := os.Getenv(runtimeEnv); name {
	case "":
		return "minid"
	case "minid", "containerd":
		return name
	default:
		t.Fatalf("%s=%q: want minid or containerd", runtimeEnv, name)
		return ""
	}
}

// StartCRI starts a runtime and pulls the suite's busybox. Its pods are removed at the test's end.
func StartCRI(t testing.TB, o CRIOptions) *CRIServer {
	t.Helper()
	if !o.InNetwork {
		Network(t)
	}
	s := &CRIServer{Registry: o.Registry}
	if s.Registry == nil {
		s.Registry = Registry(t, RegistryOptions{})
	}
	if o.Runtime == "" {
		o.Runtime = CRIRuntime(t)
	}
	hosts := s.Registry.Mirrors(t, SuiteHosts()...)
	if len(o.CNI) > 0 {
		s.CNIDir = CNI(t, o.CNI...)
	}
	if o.Runtime == "minid" {
		s.startMinid(t, o, hosts)
	} else {
		s.startContainerd(t, hosts)
	}
	s.Pull(SuiteBusybox)
	return s
}

func (s *CRIServer) startContainerd(t testing.TB, hosts string) {
	t.Helper()
	if s.CNIDir == "" {
		s.CNIDir = CNI(t, CNIBridge(t, 66), CNIPortmap())
	}
	s.Containerd = StartContainerd(t, ContainerdOptions{CRI: true, HostsDir: hosts, CNIDir: s.CNIDir})
	s.CRI = DialCRI(t, s.Containerd.Address)
	s.Parent = "/" + filepath.Base(s.Containerd.Dir)
	t.Cleanup(s.RemoveAll)
}

func (s *CRIServer) startMinid(t testing.TB, o CRIOptions, hosts string) {
	t.Helper()
	if s.CNIDir == "" {
		s.CNIDir = filepath.Join(Dir(t), "no-cni")
	}
	if o.Scope == "" {
		o.Scope = "node"
	}
	config := fmt.Sprintf("[registry]\nconfig_path = %q\n[cni]\nconf_dir = %q\nbin_dirs = [%q]\n[supervisor]\nscope = %q\n%s",
		hosts, s.CNIDir, CNIBinDir, o.Scope, o.Config)
	s.Daemon = Daemon(t, DaemonOptions{Top: o.Top, Config: config, Env: o.Env})
	s.CRI = DialCRI(t, s.Daemon.Address)
	t.Cleanup(func() {
		if !s.Daemon.Ended() {
			s.RemoveAll()
		}
	})
}

// Name is the runtime's, for messages.
func (s *CRIServer) Name() string {
	if s.Daemon == nil {
		return "containerd"
	}
	return "minid"
}

// Parents are the processes that the runtime keeps for its pods, besides itself and the containers: supervisors; shims and
// what holds the namespaces.
func (s *CRIServer) Parents() []int {
	if s.Daemon == nil {
		return append(s.Containerd.Shims(), s.Containerd.Pauses(s.Parent)...)
	}
	return s.Daemon.Supervisors()
}

// PID is the runtime's.
func (s *CRIServer) PID() int {
	if s.Daemon == nil {
		return s.Containerd.PID()
	}
	return s.Daemon.PID()
}
