package selinux

import "testing"

func TestLevel(t *testing.T) {
	for label, want := range map[string]string{"": "", "no label": "", "u:r:t:s0": "s0", "system_u:system_r:container_t:s0:c1,c2": "s0:c1,c2", "u:r:t": ""} {
		if got := Level(label); got != want {
			t.Errorf("%q: level %q, want %q", label, got, want)
		}
	}
}

// TestWithout: a host without SELinux has nothing to label.
func TestWithout(t *testing.T) {
	if h := ThisHost(1024); h != nil {
		t.Skip("this machine has SELinux; test/vm looks at what it does")
	}
	h := &Host{}
	if err := h.Relabel(t.TempDir(), "system_u:object_r:container_file_t:s0", true); err != nil {
		t.Errorf("relabel: %v", err)
	}
	if process, files, err := h.Choose(nil); process != "" || files != "" || err != nil {
		t.Errorf("labels %q, %q, %v", process, files, err)
	}
}
