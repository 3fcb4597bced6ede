// Command nc joins standard input and output to a connection: nc [-u] [-w SECONDS] HOST PORT, nc [-u] [-k] -l [-p] PORT,
// nc -z HOST PORT, nc -U PATH.
package main

import (
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"time"
)

type options struct {
	listen, keep, udp, unix, zero bool
	port                          string
	wait                          time.Duration
}

func main() {
	var o options
	flag.BoolVar(&o.listen, "l", false, "listen")
	flag.BoolVar(&o.keep, "k", false, "listen for more than one connection")
	flag.BoolVar(&o.udp, "u", false, "use UDP")
	flag.BoolVar(&o.unix, "U", false, "use a Unix socket")
	flag.BoolVar(&o.zero, "z", false, "connect, and nothing more")
	flag.StringVar(&o.port, "p", "", "`port` to listen on")
	seconds := flag.Int("w", 0, "give up after `seconds` without a connection")
	flag.Parse()
	o.wait = time.Duration(*seconds) * time.Second
	if err := run(o, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "nc:", err)
		os.Exit(1)
	}
}

func run(o options, args []string) error {
	network := "tcp"
	if o.udp {
		network = "udp"
	}
	var address string
	switch {
	case o.unix && len(args) == 1:
		network, address = "unix", args[0]
	case o.listen && o.port != "":
		address = ":" + o.port
	case o.listen && len(args) > 0:
		address = ":" + args[len(args)-1]
	case len(args) == 2:
		address = net.JoinHostPort(args[0], args[1])
	default:
		return fmt.Errorf("where to? nc HOST PORT, or nc -l -p PORT")
	}
	if o.listen {
		return listen(o, network, address)
	}
	conn, err := net.DialTimeout(network, address, o.wait)
	if err != nil || o.zero {
		return err
	}
	return join(conn)
}

func listen(o options, network, address string) error {
	if network == "udp" {
		return listenUDP(address)
	}
	l, err := net.Listen(network, address)
	if err != nil {
		return err
	}
	defer l.Close()
	for {
		conn, err := l.Accept()
		if err != nil {
			return err
		}
		if err := join(conn); err != nil || !o.keep {
			return err
		}
	}
}

func listenUDP(address string) error {
	packets, err := net.ListenPacket("udp", address)
	if err != nil {
		return err
	}
	defer packets.Close()
	buffer := make([]byte, 64<<10)
	for {
		n, _, err := packets.ReadFrom(buffer)
		if err != nil {
			return err
		}
		if _, err := os.Stdout.Write(buffer[:n]); err != nil {
			return err
		}
	}
}

// join copies both ways until the other side is done.
func join(conn net.Conn) error {
	defer conn.Close()
	go func() {
		_, _ = io.Copy(conn, os.Stdin)
		if half, ok := conn.(interface{ CloseWrite() error }); ok {
			_ = half.CloseWrite()
		}
	}()
	_, err := io.Copy(os.Stdout, conn)
	return err
}
