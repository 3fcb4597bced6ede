// Command stat prints what the kernel knows of files: stat [-L] [-c FORMAT] FILE….
package main

import (
	"fmt"
	"os"
	"os/user"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const long = "  File: %n\n  Size: %s\tBlocks: %b\t%F\nDevice: %d\tInode: %i\tLinks: %h\nAccess: (%a)\tUid: (%u/%U)\tGid: (%g/%G)\nModify: %y"

func main() {
	format, follow, status := long, false, 0
	args := os.Args[1:]
	for len(args) > 0 && strings.HasPrefix(args[0], "-") {
		switch {
		case args[0] == "-L":
			follow = true
		case args[0] == "-c" && len(args) > 1:
			format, args = args[1], args[1:]
		default:
			fmt.Fprintf(os.Stderr, "stat: %s: not an option; there are -L and -c FORMAT\n", args[0])
			os.Exit(1)
		}
		args = args[1:]
	}
	for _, name := range args {
		var st unix.Stat_t
		call := unix.Lstat
		if follow {
			call = unix.Stat
		}
		if err := call(name, &st); err != nil {
			fmt.Fprintf(os.Stderr, "stat: %s: %v\n", name, err)
			status = 1
			continue
		}
		fmt.Println(expand(format, name, &st))
	}
	os.Exit(status)
}

func expand(format, name string, st *unix.Stat_t) string {
	number := func(n int64) string { return strconv.FormatInt(n, 10) }
	uid, gid := number(int64(st.Uid)), number(int64(st.Gid))
	userName, groupName := uid, gid
	if u, err := user.LookupId(uid); err == nil {
		userName = u.Username
	}
	if g, err := user.LookupGroupId(gid); err == nil {
		groupName = g.Name
	}
	modified := time.Unix(st.Mtim.Unix())
	return strings.NewReplacer(
		"%n", name, "%s", number(st.Size), "%b", number(st.Blocks), "%F", kind(st),
		"%a", strconv.FormatUint(uint64(st.Mode&0o7777), 8), "%f", strconv.FormatUint(uint64(st.Mode), 16),
		"%u", uid, "%g", gid, "%U", userName, "%G", groupName,
		"%i", strconv.FormatUint(st.Ino, 10), "%h", strconv.FormatUint(uint64(st.Nlink), 10),
		"%d", strconv.FormatUint(uint64(st.Dev), 10),
		"%t", strconv.FormatUint(uint64(unix.Major(uint64(st.Rdev))), 16), "%T", strconv.FormatUint(uint64(unix.Minor(uint64(st.Rdev))), 16),
		"%Y", number(modified.Unix()), "%y", modified.Format("2006-01-02 15:04:05.000000000 -0700"), "%%", "%",
	).Replace(format)
}

func kind(st *unix.Stat_t) string {
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		return "directory"
	case unix.S_IFLNK:
		return "symbolic link"
	case unix.S_IFCHR:
		return "character special file"
	case unix.S_IFBLK:
		return "block special file"
	case unix.S_IFIFO:
		return "fifo"
	case unix.S_IFSOCK:
		return "socket"
	default:
		if st.Size == 0 {
			return "regular empty file"
		}
		return "regular file"
	}
}
