// Command nslookup prints the addresses of a name, or the names of an address: nslookup NAME [SERVER[:PORT]].
package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"time"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "nslookup:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) == 0 || len(args) > 2 {
		return fmt.Errorf("usage: nslookup NAME [SERVER[:PORT]]")
	}
	resolver := &net.Resolver{PreferGo: true}
	if len(args) == 2 {
		server := args[1]
		if _, _, err := net.SplitHostPort(server); err != nil {
			server = net.JoinHostPort(server, "53")
		}
		resolver.Dial = func(ctx context.Context, network, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, server)
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	lookup := resolver.LookupHost
	if net.ParseIP(args[0]) != nil {
		lookup = resolver.LookupAddr
	}
	found, err := lookup(ctx, args[0])
	if err != nil {
		return err
	}
	fmt.Println("Name:   ", args[0])
	for _, f := range found {
		fmt.Println("Address:", f)
	}
	return nil
}
