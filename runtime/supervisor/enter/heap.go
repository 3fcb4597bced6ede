package enter

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// arena is the unit in which Go reserves addresses for its heap on 64-bit Linux (runtime/malloc.go, heapArenaBytes).
const arena = 64 << 20

// withholdHeap leaves Go's heap out of the copy of this process that the first process is: it has no use for it, what is
// in it is nobody's business there, and neither its page tables need copying nor, afterwards, every page that this process
// writes to. A supervisor's heap is a few MiB, in one arena; a part beyond would be copied. What the heap has grown by
// since the last call is a new mapping: so this is called before each copy. When it fails, all is copied.
// variable is any of Go's; its stacks are in the heap too, and C runs on one of its own.
func withholdHeap(variable unsafe.Pointer) {
	from := uintptr(variable) &^ (arena - 1)
	_, _, _ = unix.Syscall(unix.SYS_MADVISE, from, arena, unix.MADV_DONTFORK)
}
