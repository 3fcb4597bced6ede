package spec

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// maxID is the largest user or group number a process can have; 1<<32-1 means "no change" to the kernel.
const maxID = 1<<32 - 2

// maxAccounts bounds what is read of an image's /etc/passwd or /etc/group, in bytes.
const maxAccounts = 16 << 20

// userRule sets who the process is. https://github.com/opencontainers/runtime-spec/blob/v1.3.0/config.md#posix-process
func userRule(b *builder) error {
	want := b.req.User
	if want == "" {
		want = b.in.Image.User
	}
	id, err := resolveUser(b.files, want)
	if err != nil {
		return err
	}
	gids := id.groups
	switch b.req.GroupPolicy {
	case "":
	case "merge":
		if gids, err = groupsOf(b.files, id.name, id.gid); err != nil {
			return err
		}
	case "strict":
		gids = nil
	default:
		return invalid("group policy %q: use merge (the user's groups in /etc/group too) or strict", b.req.GroupPolicy)
	}
	for _, g := range b.req.Groups {
		gid, err := resolveGroup(b.files, g)
		if err != nil {
			return err
		}
		gids = append(gids, gid)
	}
	b.spec.Process.User = specs.User{UID: id.uid, GID: id.gid, AdditionalGids: supplementary(id.gid, gids)}
	if u := b.req.Umask; u != nil {
		if *u > 0o777 {
			return invalid("umask %#o: it has at most nine bits, 0 to 0777", *u)
		}
		mask := *u
		b.spec.Process.User.Umask = &mask
	}
	b.home = id.home
	return b.checkMapped(id.uid, id.gid)
}

// supplementary adds the primary group to the supplementary ones. Without it a set-group-id program would shed it, and
// files that deny just that group would open (CVE-2022-36109).
func supplementary(primary uint32, gids []uint32) []uint32 {
	all := append([]uint32{primary}, gids...)
	slices.Sort(all)
	return slices.Compact(all)
}

// checkMapped refuses a user that the container's user namespace does not have: the runtime would answer EINVAL.
func (b *builder) checkMapped(uid, gid uint32) error {
	l := b.spec.Linux
	if len(l.UIDMappings) > 0 && !mapped(l.UIDMappings, uid) {
		return invalid("user %d has no place in the user namespace, whose uid map is %s: map it, or choose another user", uid, showMap(l.UIDMappings))
	}
	if len(l.GIDMappings) > 0 && !mapped(l.GIDMappings, gid) {
		return invalid("group %d has no place in the user namespace, whose gid map is %s: map it, or choose another group", gid, showMap(l.GIDMappings))
	}
	return nil
}

// identity is a user as the container's account files have it.
type identity struct {
	name     string // "" when there is no account
	uid, gid uint32
	groups   []uint32 // of /etc/group that list the user, without gid; none beside a chosen group
	home     string
}

// resolveUser reads "name|uid[:group|gid]" with the container's account files; files may be nil, then only numbers are
// known. The empty string is root. A number needs no account.
func resolveUser(files fs.FS, want string) (identity, error) {
	name, group, hasGroup := strings.Cut(want, ":")
	if hasGroup && group == "" {
		return identity{}, invalid("user %q: a group must follow the colon", want)
	}
	if name == "" {
		name = "0"
	}
	id := identity{home: "/"}
	account, found, err := findAccount(files, name)
	if err != nil {
		return identity{}, err
	}
	uid, numeric := parseID(name)
	switch {
	case found:
		id = identity{name: account.name, uid: account.uid, gid: account.gid, home: account.home}
		if id.home == "" {
			id.home = "/"
		}
	case numeric:
		id.uid = uid
		if uid == 0 {
			id.home = "/root"
		}
	case looksNumeric(name):
		return identity{}, invalid("user %q: numbers go from 0 to %d", want, uint32(maxID))
	default:
		return identity{}, fmt.Errorf("user %q isn't in the container's /etc/passwd: use its number, or an image that has it: %w", name, errdefs.ErrNotFound)
	}
	if hasGroup {
		if id.gid, err = resolveGroup(files, group); err != nil {
			return identity{}, err
		}
		return id, nil // a chosen group stands alone, as with Docker
	}
	if found {
		id.groups, err = groupsOf(files, account.name, id.gid)
	}
	return id, err
}

// resolveGroup reads a group's name or number.
func resolveGroup(files fs.FS, want string) (uint32, error) {
	var gid uint32
	found := false
	err := readLines(files, "etc/group", func(line string) bool {
		if g, ok := parseGroup(line); ok && (g.name == want || strconv.FormatUint(uint64(g.gid), 10) == want) {
			gid, found = g.gid, true
		}
		return !found
	})
	if err != nil {
		return 0, err
	}
	if found {
		return gid, nil
	}
	if n, ok := parseID(want); ok {
		return n, nil
	}
	if looksNumeric(want) {
		return 0, invalid("group %q: numbers go from 0 to %d", want, uint32(maxID))
	}
	return 0, fmt.Errorf("group %q isn't in the container's /etc/group: use its number, or an image that has it: %w", want, errdefs.ErrNotFound)
}

// findAccount looks a name up, then a number: a user may be called 1000.
func findAccount(files fs.FS, want string) (account, bool, error) {
	uid, numeric := parseID(want)
	var byName, byUID *account
	err := readLines(files, "etc/passwd", func(line string) bool {
		a, ok := parseAccount(line)
		if !ok {
			return true
		}
		if byName == nil && a.name == want {
			byName = &a
		}
		if byUID == nil && numeric && a.uid == uid {
			byUID = &a
		}
		return byName == nil
	})
	switch {
	case err != nil:
		return account{}, false, err
	case byName != nil:
		return *byName, true, nil
	case byUID != nil:
		return *byUID, true, nil
	}
	return account{}, false, nil
}

// groupsOf lists the groups that name a user as a member, without its own.
func groupsOf(files fs.FS, name string, own uint32) ([]uint32, error) {
	if name == "" {
		return nil, nil
	}
	var gids []uint32
	err := readLines(files, "etc/group", func(line string) bool {
		if g, ok := parseGroup(line); ok && g.gid != own && slices.Contains(g.members, name) {
			gids = append(gids, g.gid)
		}
		return true
	})
	return gids, err
}

// account is a line of /etc/passwd (passwd(5)).
type account struct {
	name     string
	uid, gid uint32
	home     string
}

// accountGroup is a line of /etc/group (group(5)).
type accountGroup struct {
	name    string
	gid     uint32
	members []string
}

// parseAccount reads name:password:uid:gid:gecos:home:shell. Lines that are something else (comments, NIS entries) are
// skipped, as the C library does.
func parseAccount(line string) (account, bool) {
	f := strings.Split(line, ":")
	if len(f) < 4 || f[0] == "" || f[0][0] == '#' {
		return account{}, false
	}
	uid, ok1 := parseID(f[2])
	gid, ok2 := parseID(f[3])
	a := account{name: f[0], uid: uid, gid: gid}
	if len(f) > 5 {
		a.home = f[5]
	}
	return a, ok1 && ok2
}

// parseGroup reads name:password:gid:members.
func parseGroup(line string) (accountGroup, bool) {
	f := strings.Split(line, ":")
	if len(f) < 3 || f[0] == "" || f[0][0] == '#' {
		return accountGroup{}, false
	}
	gid, ok := parseID(f[2])
	g := accountGroup{name: f[0], gid: gid}
	if len(f) > 3 {
		for m := range strings.SplitSeq(f[3], ",") {
			if m = strings.TrimSpace(m); m != "" {
				g.members = append(g.members, m)
			}
		}
	}
	return g, ok
}

func parseID(s string) (uint32, bool) {
	n, err := strconv.ParseUint(strings.TrimSpace(s), 10, 32)
	return uint32(n), err == nil && n <= maxID
}

func looksNumeric(s string) bool {
	return s != "" && strings.Trim(strings.TrimPrefix(s, "-"), "0123456789") == ""
}

// readLines gives each line of a file to visit until it answers false. A file that isn't there has no lines.
func readLines(files fs.FS, name string, visit func(string) bool) error {
	if files == nil {
		return nil
	}
	f, err := files.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("the container's /%s: %w", name, err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxAccounts+1))
	if err != nil {
		return fmt.Errorf("the container's /%s: %w", name, err)
	}
	if len(data) > maxAccounts {
		return invalid("the container's /%s has more than %d bytes", name, maxAccounts)
	}
	for line := range strings.Lines(string(data)) {
		if !visit(strings.TrimRight(line, "\r\n")) {
			return nil
		}
	}
	return nil
}
