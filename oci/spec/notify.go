package spec

import (
	"slices"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// Notify has somebody asked, at a Unix socket, about the system calls that a filter forbids by name; metadata tells him of
// which container. Rules by which a call is said not to exist (ENOSYS: libraries try others then) stay. The default action
// cannot ask (runc refuses it), so that what it forbids is asked about as far as it is in notable.
func Notify(f *specs.LinuxSeccomp, socket, metadata string) {
	forbids := func(a specs.LinuxSeccompAction) bool {
		return slices.Contains([]specs.LinuxSeccompAction{specs.ActErrno, specs.ActKill, specs.ActKillProcess, specs.ActKillThread}, a)
	}
	named := map[string]bool{}
	asked := false
	for i := range f.Syscalls {
		c := &f.Syscalls[i]
		for _, n := range c.Names {
			named[n] = true
		}
		if forbids(c.Action) && (c.ErrnoRet == nil || *c.ErrnoRet != uint(unix.ENOSYS)) && !slices.Contains(c.Names, "write") { // the runtime needs write itself
			c.Action, c.ErrnoRet, asked = specs.ActNotify, nil, true
		}
	}
	if forbids(f.DefaultAction) {
		rest := slices.DeleteFunc(notable(), func(n string) bool { return named[n] })
		if len(rest) > 0 {
			f.Syscalls, asked = append(f.Syscalls, specs.LinuxSyscall{Names: rest, Action: specs.ActNotify}), true
		}
	}
	if asked {
		f.ListenerPath, f.ListenerMetadata = socket, metadata
	}
}

// notable are the system calls that default profiles forbid, and of which the owner of a node wants to know, but for those
// that the runtime's own init tries under the filter, and does without (open_tree, fsopen, fsconfig, fsmount).
func notable() []string {
	return []string{
		"acct", "add_key", "bpf", "chroot", "clock_adjtime", "clock_settime", "delete_module", "fanotify_init", "finit_module",
		"fspick", "get_mempolicy", "init_module", "io_uring_enter", "io_uring_register", "io_uring_setup", "ioperm",
		"iopl", "kcmp", "kexec_file_load", "kexec_load", "keyctl", "lookup_dcookie", "mbind", "mount", "mount_setattr", "move_mount",
		"move_pages", "nfsservctl", "open_by_handle_at", "perf_event_open", "personality", "pivot_root", "process_vm_readv",
		"process_vm_writev", "ptrace", "quotactl", "quotactl_fd", "reboot", "request_key", "set_mempolicy", "setns", "settimeofday",
		"swapoff", "swapon", "sysfs", "syslog", "umount2", "unshare", "uselib", "userfaultfd", "ustat", "vhangup",
	}
}
