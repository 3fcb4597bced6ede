// Command whoami prints the effective user's name.
package main

import (
	"fmt"
	"os"
	"os/user"
	"strconv"
)

func main() {
	id := strconv.Itoa(os.Geteuid())
	u, err := user.LookupId(id)
	if err != nil {
		fmt.Fprintf(os.Stderr, "whoami: user %s has no name\n", id)
		os.Exit(1)
	}
	fmt.Println(u.Username)
}
