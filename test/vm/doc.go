// Package vm tests the suite on a host that is not this one: a virtual machine with Debian's kernel, which has cgroup v2
// alone, AppArmor, and systemd. The machine is QEMU without acceleration or network; its disk holds the built binaries,
// test/vm/init as the first process, and the tests of test/vm/guest, whose results are passed on. scripts/vm-kernel
// brings the kernel.
package vm
