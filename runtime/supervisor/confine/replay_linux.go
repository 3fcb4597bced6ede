//go:build cgo && seccomp

package confine

/*
#cgo pkg-config: libseccomp
#cgo LDFLAGS: -Wl,--wrap=seccomp_init -Wl,--wrap=seccomp_release -Wl,--wrap=seccomp_reset -Wl,--wrap=seccomp_merge
#cgo LDFLAGS: -Wl,--wrap=seccomp_load -Wl,--wrap=seccomp_export_bpf -Wl,--wrap=seccomp_export_pfc
#cgo LDFLAGS: -Wl,--wrap=seccomp_arch_add -Wl,--wrap=seccomp_arch_remove -Wl,--wrap=seccomp_attr_set
#cgo LDFLAGS: -Wl,--wrap=seccomp_syscall_priority
#cgo LDFLAGS: -Wl,--wrap=seccomp_rule_add_array -Wl,--wrap=seccomp_rule_add_exact_array
#include "replay.h"
*/
import "C"

import (
	"errors"
	"fmt"
	"unsafe"

	"github.com/opencontainers/runc/libcontainer/configs"
	"github.com/opencontainers/runc/libcontainer/seccomp"
	"golang.org/x/sys/unix"
)

// Enabled says whether this program has libseccomp.
const Enabled = true

// Arm makes libseccomp give the remembered filter to libcontainer's init, when this process was given one. It is
// called before libcontainer.Init. The descriptor is closed when the container's program is executed; its number is
// kept until then, so that nothing else gets it.
func Arm() error {
	if !sealed(filterFD) {
		return nil
	}
	if _, err := unix.FcntlInt(filterFD, unix.F_SETFD, unix.FD_CLOEXEC); err != nil {
		return fmt.Errorf("the remembered seccomp filter: %w", err)
	}
	var st unix.Stat_t
	if err := unix.Fstat(filterFD, &st); err != nil {
		return fmt.Errorf("the remembered seccomp filter: %w", err)
	}
	data, err := unix.Mmap(filterFD, 0, int(st.Size), unix.PROT_READ, unix.MAP_PRIVATE)
	if err != nil {
		return fmt.Errorf("the remembered seccomp filter: %w", err)
	}
	calls, program, err := parse(data)
	if err != nil {
		return err
	}
	arm(calls, program)
	return nil
}

// arm keeps pointers to both, which must be memory that Go does not move or free.
func arm(calls, program []byte) {
	C.replay_arm(cBytes(calls), C.size_t(len(calls)), cBytes(program), C.size_t(len(program)))
}

func cBytes(b []byte) *C.uint8_t { return (*C.uint8_t)(unsafe.Pointer(unsafe.SliceData(b))) }

// compile has libcontainer make the filter of a profile, which is not put in force: the export fails, by intention,
// when everything is known.
func compile(profile *configs.Seccomp) ([]byte, error) {
	C.replay_record()
	if _, err := seccomp.InitSeccomp(profile); err == nil {
		return nil, errors.New("the filter was put in force and not exported")
	} else if calls, program := recorded(); calls != nil {
		return format(calls, program), nil
	} else {
		return nil, err
	}
}

func recorded() (calls, program []byte) {
	var c, p *C.uint8_t
	var cLen, pLen C.size_t
	if C.replay_recorded(&c, &cLen, &p, &pLen) != 0 {
		return nil, nil
	}
	return C.GoBytes(unsafe.Pointer(c), C.int(cLen)), C.GoBytes(unsafe.Pointer(p), C.int(pLen))
}
