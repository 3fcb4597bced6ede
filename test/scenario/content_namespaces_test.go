package scenario_test

import (
	"strings"
	"testing"
	"time"

	"github.com/minirt/mini/internal/testenv"
)

// TestNamespaces keeps the images, snapshots, leases and containers of two users apart.
func TestNamespaces(t *testing.T) {
	testenv.Image(t, "busybox")
	r := testenv.Registry(t, testenv.RegistryOptions{})
	d := testenv.Daemon(t, testenv.DaemonOptions{})
	ref := r.Ref("busybox")
	d.Minictr("namespaces", "create", "one", "owner=tests")
	refused(t, d.Try("namespaces", "create", "one"), "one", "already")
	refused(t, d.Try("namespaces", "create", "a/b"), "a/b")
	d.Minictr("-n", "one", "images", "pull", ref)
	d.Minictr("-n", "one", "containers", "create", ref, "same-name")
	d.Minictr("-n", "one", "leases", "create", "--id", "mine")
	for _, list := range [][]string{{"images", "ls", "-q"}, {"containers", "ls", "-q"}, {"snapshots", "ls", "-q"}, {"leases", "ls", "-q"}} {
		if got := d.Minictr(append([]string{"-n", "two"}, list...)...); got != "" {
			t.Errorf("%v of another namespace: %s", list, got)
		}
		if got := d.Minictr(append([]string{"-n", "one"}, list...)...); got == "" {
			t.Errorf("%v of the namespace is empty", list)
		}
	}
	refused(t, d.Try("-n", "two", "containers", "info", "same-name"), "same-name")
	refused(t, d.Try("-n", "two", "containers", "create", ref, "same-name"), "pull it first")
	d.Minictr("-n", "two", "images", "pull", ref)
	d.Minictr("-n", "two", "containers", "create", ref, "same-name")

	table := d.Minictr("namespaces", "ls")
	header(t, table, "NAME", "LABELS")
	if !strings.Contains(table, "owner=tests") {
		t.Errorf("list:\n%s", table)
	}
	if got := d.Minictr("namespaces", "label", "one", "owner=", "colour=blue"); got != "colour=blue\n" {
		t.Errorf("label: %q", got)
	}
	if names := decode[[]struct{ Name string }](t, d.Minictr("namespaces", "ls", "-o", "json")); len(names) != 3 {
		t.Errorf("list -o json: %+v", names)
	}
	if out := (call{env: []string{"MINID_NAMESPACE=two"}}).run(t, d, "containers", "ls", "-q").Stdout; out != "same-name\n" {
		t.Errorf("the namespace of the environment: %q", out)
	}

	refused(t, d.Try("namespaces", "rm", "one"), "one is not empty", "containers (1)", "images (1)")
	d.Minictr("-n", "one", "containers", "rm", "same-name")
	d.Minictr("-n", "one", "images", "rm", ref)
	refused(t, d.Try("namespaces", "rm", "one"), "lease")
	d.Minictr("-n", "one", "leases", "rm", "mine")
	if got := d.Minictr("namespaces", "rm", "one"); got != "one\n" { // the layers, now garbage, do not stand in the way
		t.Errorf("rm printed %q", got)
	}
	if got := d.Minictr("-n", "two", "run", "--rm", ref, "after", "echo", "alive"); got != "alive\n" {
		t.Errorf("the other namespace after this: %q", got)
	}
	refused(t, d.Try("namespaces", "rm", "one"), "there is no namespace one")
}

// TestLeasesAndGarbage keeps a blob by a lease until that ends, by expiry or by hand.
func TestLeasesAndGarbage(t *testing.T) {
	d := testenv.Daemon(t, testenv.DaemonOptions{})
	blob := func(text string) string {
		return strings.TrimSpace(feed(t, d, text, "content", "ingest", "blob-"+text))
	}
	has := func(dgst string) bool { return d.Try("content", "get", dgst).Code == 0 }
	byHand, brief, free, rooted := blob("hand"), blob("brief"), blob("free"), blob("rooted")
	d.Minictr("content", "label", rooted, "minid.gc.root=yes")

	if got := d.Minictr("leases", "create", "--id", "by-hand", "-x", "0", "why=test"); got != "by-hand\n" {
		t.Errorf("create printed %q", got)
	}
	refused(t, d.Try("leases", "create", "--id", "by-hand"), "already")
	d.Minictr("leases", "add", "by-hand", "content", byHand)
	made := strings.TrimSpace(d.Minictr("leases", "create", "-x", "1500ms"))
	d.Minictr("leases", "add", made, "content", brief)
	table := d.Minictr("leases", "ls")
	header(t, table, "LEASE ID", "CREATED", "EXPIRES", "RESOURCES", "LABELS")
	if !strings.Contains(table, "why=test") || !strings.Contains(table, "never") || len(lines(table)) != 3 {
		t.Errorf("list:\n%s", table)
	}
	if got := d.Minictr("leases", "ls", "-q", "labels.why==test"); got != "by-hand\n" {
		t.Errorf("list by label: %q", got)
	}

	if dry := d.Minictr("content", "prune", "references", "--dry"); !strings.Contains(dry, free) || strings.Contains(dry, brief) || !has(free) {
		t.Errorf("a dry collection: %s", dry)
	}
	if out := d.Minictr("content", "prune", "references"); !strings.Contains(out, "blob "+free) || has(free) || !has(brief) || !has(byHand) || !has(rooted) {
		t.Errorf("the first collection: %s", out)
	}
	testenv.Eventually(t, 10*time.Second, "the lease expires", func() bool { return d.Minictr("leases", "ls", "-q") == "by-hand\n" })
	if out := d.Minictr("content", "prune"); !strings.Contains(out, brief) || has(brief) || !has(byHand) {
		t.Errorf("the collection after the expiry: %s", out)
	}
	d.Minictr("leases", "rm", "--sync", "by-hand")
	if has(byHand) {
		t.Error("the blob outlives its lease, which was removed with --sync")
	}
	refused(t, d.Try("leases", "add", "gone", "content", rooted), "gone")
	d.Minictr("content", "rm", rooted)
	if got := d.Minictr("leases", "ls", "-o", "json"); got != "[]\n" {
		t.Errorf("an empty list as JSON: %q", got)
	}
}
