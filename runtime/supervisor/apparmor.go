package supervisor

import (
	"fmt"
	"strings"

	"github.com/containerd/errdefs"
)

// profileError tells why an AppArmor profile could not be applied; nil when err is about something else. The kernel
// answers a name that it does not know with ENOENT, about its own file.
func profileError(profile string, err error) error {
	text := stripped(err.Error())
	switch {
	case profile == "" || !strings.Contains(text, "apparmor") || !strings.Contains(text, "apply profile"):
		return nil
	case strings.HasSuffix(text, "no such file or directory"):
		return fmt.Errorf("apparmor profile %q is not loaded: load it with apparmor_parser, or name another: %w", profile, errdefs.ErrFailedPrecondition)
	}
	return fmt.Errorf("apparmor profile %q: %s: %w", profile, lastCause(text), errdefs.ErrFailedPrecondition)
}
