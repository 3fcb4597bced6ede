package main

import (
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// act plays a part inside of a container.
func act(args []string) error {
	if len(args) == 0 {
		return fmt.Errorf("init: want a part to play")
	}
	switch {
	case args[0] == "eat" && len(args) == 2:
		_, err := eat(args[1])
		return err
	case args[0] == "keep" && len(args) == 2:
		return keep(args[1])
	case args[0] == "count":
		return count()
	case args[0] == "storm":
		return storm()
	case args[0] == "device" && len(args) == 4:
		return device(args[1], args[2], args[3])
	case args[0] == "reach":
		return reach()
	}
	return fmt.Errorf("init: no part %q", args)
}

// eat takes so many MiB of memory.
func eat(mib string) ([]byte, error) {
	n, err := strconv.Atoi(mib)
	if err != nil {
		return nil, err
	}
	data := make([]byte, n<<20)
	for i := 0; i < len(data); i += os.Getpagesize() {
		data[i] = 1
	}
	fmt.Println("eaten", len(data))
	return data, nil
}

// keep is eat, and looks at it now and then for ever.
func keep(mib string) error {
	data, err := eat(mib)
	for i := 0; err == nil; i = (i + os.Getpagesize()) % len(data) {
		if data[i] != 1 {
			err = fmt.Errorf("byte %d is %d", i, data[i])
		}
		time.Sleep(time.Millisecond)
	}
	return err
}

// count says how far it has counted, five times a second.
func count() error {
	for n := 0; ; n++ {
		fmt.Println("counted", n)
		time.Sleep(200 * time.Millisecond)
	}
}

// storm has twenty descendants in sessions of their own that ignore the signal to end, each of which starts the next and
// ends, for ever.
func storm() error {
	signal.Ignore(syscall.SIGTERM, syscall.SIGHUP)
	n := 1
	if os.Getenv("STORM") == "" {
		n = 20
	}
	for range n {
		cmd := exec.Command("/proc/self/exe", "storm")
		cmd.Env = []string{"STORM=1"}
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		if err := cmd.Start(); err != nil {
			return err
		}
	}
	if n > 1 {
		fmt.Println("begun")
		select {}
	}
	return nil
}

// reach tries what changes the host, or looks into it, and says what became of each.
func reach() error {
	open := func(path string, flags int) error {
		fd, err := unix.Open(path, flags, 0)
		if err == nil {
			err = unix.Close(fd)
		}
		return err
	}
	fmt.Println("mount:", unix.Mount("none", "/tmp", "tmpfs", 0, ""))
	fmt.Println("sysrq:", open("/proc/sysrq-trigger", unix.O_WRONLY))
	fmt.Println("kcore:", open("/proc/kcore", unix.O_RDONLY))
	return nil
}

// device makes a node and opens it.
func device(kind, major, minor string) error {
	mode := uint32(unix.S_IFCHR)
	if kind == "b" {
		mode = unix.S_IFBLK
	}
	ma, err := strconv.Atoi(major)
	if err != nil {
		return err
	}
	mi, err := strconv.Atoi(minor)
	if err != nil {
		return err
	}
	const node = "/tmp-node"
	if err := unix.Mknod(node, mode|0o600, int(unix.Mkdev(uint32(ma), uint32(mi)))); err != nil {
		return fmt.Errorf("mknod: %w", err)
	}
	defer os.Remove(node)
	f, err := os.Open(node)
	if err != nil {
		return err
	}
	fmt.Println("opened")
	return f.Close()
}
