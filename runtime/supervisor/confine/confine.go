// Package confine remembers compiled seccomp filters. To compile Docker's default profile for x86_64 and x86 takes
// libseccomp 10 to 15 ms of processor time, half of a container's start, and gives the same bytes each time.
//
// libcontainer compiles the filter in its init and in its setns init, just before execve. This package does not take
// that out of its hands. It sits between libcontainer's binding and libseccomp (replay.c, by the linker's --wrap),
// where a filter is a list of calls: init, arch_add, attr_set, hundreds of rule_add, and export_bpf, which yields the
// filter.
//
//   - Filters, in the supervisor: the first container with a profile is started as ever, and beside it a child
//     ("minid-supervisor seccomp-compile", Compile) has libcontainer compile the profile once more, notes the calls and
//     the exported filter, and puts nothing in force. Both are kept in a sealed memory file.
//   - Arm, in libcontainer's init: a process that was given the file as descriptor 3 holds the rules back that
//     libcontainer adds. At the export the calls are compared, all and byte by byte. When they are the same, the
//     remembered filter is the answer; when they are not, libseccomp gets what was held back, in order, and compiles.
//
// What is remembered is therefore only ever used for the very calls it was made of: a wrong or old file costs time
// and changes nothing. Everything else stays libcontainer's: its ENOSYS stub, flags, no_new_privs, listeners, the
// moment at which the filter is put in force. Calls that nobody makes today (load, merge, reset, …) end the holding
// back, so that no rule is lost if libcontainer begins to use them; a test knows the functions that the binding calls.
//
// Who could tamper: the file is made by the supervisor from its child's output, sealed against writing before anyone
// has it, and given to libcontainer's init only, which is not dumpable and executes nothing of the image before it
// has compared. Descriptor 3 is taken for the file only when it is a memory file with all seals; the ones that
// libcontainer passes at that place otherwise are sockets and pipes. It is marked to be closed by execve, so the
// container's program does not get it; were it opened through /proc/self/fd/3 as a program or a working directory, it
// would be found to be neither.
//
// The child also watches what libcontainer gives the kernel in the end (capture_linux.go), for processes that are executed
// without it (runtime/supervisor/enter).
//
// What does not live here: what a profile contains (oci/spec), and when a filter is put in force (libcontainer,
// runtime/supervisor/enter).
package confine

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"os"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runc/libcontainer/configs"
	"golang.org/x/sys/unix"
)

// filterFD is the first of a libcontainer.Process's ExtraFiles.
const filterFD = 3

// Compile reads a profile (libcontainer's, in JSON) and writes its calls and filter. It is the child's whole life, and
// not for a process with more to do: from here on it compiles, and puts nothing in force.
func Compile(r io.Reader, w io.Writer) error {
	var profile configs.Seccomp
	if err := json.NewDecoder(r).Decode(&profile); err != nil {
		return fmt.Errorf("seccomp profile: %w: %w", err, errdefs.ErrInvalidArgument)
	}
	data, err := compile(&profile)
	if err != nil {
		return fmt.Errorf("seccomp profile: %w", err)
	}
	_, err = w.Write(finalOf(&profile).after(data))
	return err
}

// final is what libcontainer puts in force for a profile. It is for those who start a process without libcontainer.
type final struct {
	program []byte // empty: not known
	flags   uint32 // of seccomp(2)
}

// after appends to a file: the program, its flags and its length (4 bytes each, little-endian).
func (f final) after(file []byte) []byte {
	out := binary.LittleEndian.AppendUint32(append(file, f.program...), f.flags)
	return binary.LittleEndian.AppendUint32(out, uint32(len(f.program)))
}

// cutFinal is the other way round.
func cutFinal(out []byte) (file []byte, f final, err error) {
	const tail = 8
	if len(out) < tail {
		return nil, final{}, fmt.Errorf("compiled seccomp filter: %d bytes: %w", len(out), errdefs.ErrDataLoss)
	}
	out, end := out[:len(out)-tail], out[len(out)-tail:]
	length := binary.LittleEndian.Uint32(end[4:])
	if uint64(length) > uint64(len(out)) || length%instruction != 0 || length > maxLength*instruction {
		return nil, final{}, fmt.Errorf("compiled seccomp filter: a final program of %d bytes: %w", length, errdefs.ErrDataLoss)
	}
	at := len(out) - int(length)
	return out[:at], final{program: out[at:], flags: binary.LittleEndian.Uint32(end)}, nil
}

// A file is: magic, length of the calls (4 bytes, little-endian), calls, filter.
const (
	magic       = "mini-seccomp-1\x00\x00"
	instruction = 8    // bytes of a struct sock_filter
	maxLength   = 4096 // instructions of a filter (BPF_MAXINSNS)
)

func format(calls, program []byte) []byte {
	data := binary.LittleEndian.AppendUint32([]byte(magic), uint32(len(calls)))
	return append(append(data, calls...), program...)
}

// parse gives the parts of a file, which share its memory.
func parse(data []byte) (calls, program []byte, err error) {
	rest, ok := bytes.CutPrefix(data, []byte(magic))
	if !ok || len(rest) < 4 {
		return nil, nil, fmt.Errorf("remembered seccomp filter: it does not begin as one: %w", errdefs.ErrDataLoss)
	}
	length, rest := binary.LittleEndian.Uint32(rest), rest[4:]
	if length == 0 || uint64(length) > uint64(len(rest)) {
		return nil, nil, fmt.Errorf("remembered seccomp filter: %d bytes of calls in %d: %w", length, len(rest), errdefs.ErrDataLoss)
	}
	calls, program = rest[:length:length], rest[length:]
	if len(program) == 0 || len(program)%instruction != 0 || len(program) > maxLength*instruction {
		return nil, nil, fmt.Errorf("remembered seccomp filter: a program of %d bytes: %w", len(program), errdefs.ErrDataLoss)
	}
	return calls, program, nil
}

const allSeals = unix.F_SEAL_SEAL | unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_WRITE

// sealed says whether fd is a memory file that nobody can change.
func sealed(fd uintptr) bool {
	seals, err := unix.FcntlInt(fd, unix.F_GET_SEALS, 0)
	return err == nil && seals&allSeals == allSeals
}

// seal makes a memory file that nobody can change or execute.
func seal(data []byte) (*os.File, error) {
	fd, err := unix.MemfdCreate("seccomp-filter", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING|unix.MFD_NOEXEC_SEAL)
	if err == unix.EINVAL { // before Linux 6.3
		fd, err = unix.MemfdCreate("seccomp-filter", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	}
	if err != nil {
		return nil, os.NewSyscallError("memfd_create", err)
	}
	f := os.NewFile(uintptr(fd), "seccomp-filter")
	if _, err = f.Write(data); err == nil {
		_, err = unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, allSeals)
	}
	if err == nil {
		err = f.Chmod(0)
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("memory file of a seccomp filter: %w", err)
	}
	return f, nil
}
