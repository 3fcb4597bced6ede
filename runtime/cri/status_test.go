package cri

import (
	"slices"
	"testing"

	"google.golang.org/grpc/codes"
	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"
)

func TestStatus(t *testing.T) {
	w := newWorld(t)
	r, err := w.Status(t.Context(), &v1.StatusRequest{Verbose: true})
	if err != nil {
		t.Fatal(err)
	}
	ready := map[string]*v1.RuntimeCondition{}
	for _, c := range r.Status.Conditions {
		ready[c.Type] = c
	}
	if n := ready[v1.NetworkReady]; !ready[v1.RuntimeReady].GetStatus() || n.GetStatus() || n.Reason == "" || n.Message == "" {
		t.Errorf("conditions are %v", r.Status.Conditions)
	}
	if h := r.RuntimeHandlers; len(h) != 2 || h[0].Name != "" || !h[0].Features.UserNamespaces || !h[0].Features.RecursiveReadOnlyMounts || h[1].Name != "crun" {
		t.Errorf("handlers are %v", r.RuntimeHandlers)
	}
	if f := r.Features; !f.SupplementalGroupsPolicy || !f.UserNamespacesHostNetwork || !f.MountOptions {
		t.Errorf("features are %v", f)
	}
	if r.Info["config"] != `{"name":"test"}` || r.Info["golang"] == "" || r.Info["runtimeHandlerProblems"] == "" {
		t.Errorf("info is %v", r.Info)
	}
	v, err := w.RuntimeServiceClient.Version(t.Context(), &v1.VersionRequest{})
	if err != nil || v.RuntimeName != "minid" || v.RuntimeVersion != "1.2.3" || v.RuntimeApiVersion != "v1" {
		t.Errorf("%v, %v", v, err)
	}
	c, err := w.RuntimeConfig(t.Context(), &v1.RuntimeConfigRequest{})
	if err != nil || c.Linux.CgroupDriver != v1.CgroupDriver_CGROUPFS {
		t.Errorf("%v, %v", c, err)
	}
}

func TestVersionNumber(t *testing.T) {
	for version, want := range map[string]string{"v1.2.3": "1.2.3", "1.2.3-5-gabc": "1.2.3-5-gabc", "": "0.0.0", "(devel)": "0.0.0-devel", "abc1234": "0.0.0-abc1234"} {
		if got := semantic(version); got != want {
			t.Errorf("%q: %s, want %s", version, got, want)
		}
	}
}

func TestUpdateRuntimeConfig(t *testing.T) {
	w := newWorld(t)
	set := func(cidr string) error {
		_, err := w.UpdateRuntimeConfig(t.Context(), &v1.UpdateRuntimeConfigRequest{RuntimeConfig: &v1.RuntimeConfig{NetworkConfig: &v1.NetworkConfig{PodCidr: cidr}}})
		return err
	}
	if err := set("10.244.1.7/24, fd00::/64"); err != nil || !slices.Equal(w.engine.cidrs, []string{"10.244.1.0/24", "fd00::/64"}) {
		t.Errorf("%v, %v", w.engine.cidrs, err)
	}
	if err := set(""); err != nil {
		t.Error(err)
	}
	wants(t, set("10.244.0.0"), codes.InvalidArgument, "like 10.244.0.0/24")
	wants(t, set("10.0.0.0/8,10.1.0.0/16"), codes.InvalidArgument, "one family")
}
