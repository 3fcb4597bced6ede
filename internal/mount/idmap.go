package mount

import (
	"fmt"
	"os"
	"runtime"
	"syscall"
)

// UserNamespace makes a user namespace with these mappings and nobody in it, to give to mount_setattr(2). Closing the
// file ends it.
func UserNamespace(uid, gid []IDMap) (*os.File, error) {
	files, err := CloneNamespaces(uid, gid, 0, "user")
	if err != nil {
		return nil, err
	}
	return files[0], nil
}

// CloneNamespaces makes a user namespace with these mappings, and others that it owns, with nobody in them. flags are
// clone(2)'s of the others (CLONE_NEWNET, …); the files are those of the kinds, as /proc/PID/ns names them. The
// namespaces end when nothing holds them.
//
// A user namespace can only be made together with a process, or by a process of a single thread, which Go's never is.
// So one is cloned that is traced and stops before its first instruction; it is killed as soon as its namespaces are
// held. Nothing of the program it names runs.
func CloneNamespaces(uid, gid []IDMap, flags uintptr, kinds ...string) ([]*os.File, error) {
	// PTRACE_TRACEME makes the cloning thread the tracer.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var pidfd int
	process, err := os.StartProcess("/proc/self/exe", []string{"user-namespace"}, &os.ProcAttr{Sys: &syscall.SysProcAttr{
		Cloneflags:                 syscall.CLONE_NEWUSER | flags,
		UidMappings:                sysMaps(uid),
		GidMappings:                sysMaps(gid),
		GidMappingsEnableSetgroups: true,
		Ptrace:                     true,
		Pdeathsig:                  syscall.SIGKILL,
		PidFD:                      &pidfd,
	}})
	if err != nil {
		return nil, fmt.Errorf("user namespace with uids %v and gids %v: %w", uid, gid, err)
	}
	files := make([]*os.File, 0, len(kinds))
	for _, kind := range kinds {
		f, openErr := os.Open(fmt.Sprintf("/proc/%d/ns/%s", process.Pid, kind))
		if openErr != nil {
			err = openErr
			break
		}
		files = append(files, f)
	}
	if pidfd > 0 {
		_ = syscall.Close(pidfd)
	}
	_ = process.Kill()
	_, _ = process.Wait()
	if err != nil {
		for _, f := range files {
			f.Close()
		}
		return nil, fmt.Errorf("user namespace: %w", err)
	}
	return files, nil
}

func sysMaps(maps []IDMap) []syscall.SysProcIDMap {
	out := make([]syscall.SysProcIDMap, len(maps))
	for i, m := range maps {
		out[i] = syscall.SysProcIDMap{ContainerID: int(m.ContainerID), HostID: int(m.HostID), Size: int(m.Size)}
	}
	return out
}
