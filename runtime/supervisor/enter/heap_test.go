package enter

import (
	"bytes"
	"fmt"
	"os"
	"slices"
	"testing"
	"unsafe"
)

// "dc" says that a copy of the process does not get the mapping (proc_pid_smaps(5)).
func TestTheHeapIsWithheld(t *testing.T) {
	variable := new([1 << 10]byte)
	withholdHeap(unsafe.Pointer(variable))
	if flags := flagsAt(t, uintptr(unsafe.Pointer(variable))); !slices.Contains(flags, "dc") {
		t.Errorf("the flags of the heap's mapping are %q", flags)
	}
}

func flagsAt(t *testing.T, address uintptr) []string {
	t.Helper()
	data, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		t.Fatal(err)
	}
	inside := false
	for line := range bytes.Lines(data) {
		var from, to uintptr
		if n, _ := fmt.Sscanf(string(line), "%x-%x ", &from, &to); n == 2 {
			inside = from <= address && address < to
		}
		if flags, ok := bytes.CutPrefix(line, []byte("VmFlags:")); ok && inside {
			var list []string
			for _, f := range bytes.Fields(flags) {
				list = append(list, string(f))
			}
			return list
		}
	}
	t.Fatalf("no mapping has %x", address)
	return nil
}
