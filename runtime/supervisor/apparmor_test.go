package supervisor

import (
	"errors"
	"strings"
	"testing"
)

func TestProfileError(t *testing.T) {
	const kernel = "unable to start container process: error during container init: unable to apply apparmor profile: " +
		"apparmor failed to apply profile: write fsmount:fscontext:proc/thread-self/attr/apparmor/exec: "
	for _, c := range []struct{ profile, from, want string }{
		{"web", kernel + "no such file or directory", `apparmor profile "web" is not loaded: load it`},
		{"web", kernel + "permission denied", `apparmor profile "web": permission denied: `},
		{"web", "exec: no such file or directory", ""},
		{"", kernel + "no such file or directory", ""},
	} {
		err := profileError(c.profile, errors.New(c.from))
		if (err == nil) != (c.want == "") || err != nil && !strings.HasPrefix(err.Error(), c.want) {
			t.Errorf("%s: %s\nis told as %v\nwant       %s", c.profile, c.from, err, c.want)
		}
	}
}
