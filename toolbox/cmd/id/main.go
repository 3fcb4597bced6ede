// Command id prints the process's user and groups: id [-u | -g | -G] [-n].
package main

import (
	"fmt"
	"os"
	"os/user"
	"slices"
	"strconv"
	"strings"

	"github.com/minirt/mini/toolbox/internal/getopt"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "id:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	given, _, err := getopt.Parse("ugGnr", args)
	if err != nil {
		return err
	}
	groups, err := os.Getgroups()
	if err != nil {
		return err
	}
	if !slices.Contains(groups, os.Getegid()) {
		groups = append([]int{os.Getegid()}, groups...)
	}
	var what byte
	named := false
	for _, g := range given {
		if g.Letter == 'n' {
			named = true
		} else if g.Letter != 'r' {
			what = g.Letter
		}
	}
	switch what {
	case 'u':
		fmt.Println(pick(os.Geteuid(), userName, named))
	case 'g':
		fmt.Println(pick(os.Getegid(), groupName, named))
	case 'G':
		var list []string
		for _, g := range groups {
			list = append(list, pick(g, groupName, named))
		}
		fmt.Println(strings.Join(list, " "))
	default:
		var list []string
		for _, g := range groups {
			list = append(list, both(g, groupName))
		}
		fmt.Printf("uid=%s gid=%s groups=%s\n", both(os.Geteuid(), userName), both(os.Getegid(), groupName), strings.Join(list, ","))
	}
	return nil
}

func pick(id int, name func(string) string, named bool) string {
	number := strconv.Itoa(id)
	if n := name(number); named && n != "" {
		return n
	}
	return number
}

func both(id int, name func(string) string) string {
	number := strconv.Itoa(id)
	if n := name(number); n != "" {
		return number + "(" + n + ")"
	}
	return number
}

func userName(id string) string {
	if u, err := user.LookupId(id); err == nil {
		return u.Username
	}
	return ""
}

func groupName(id string) string {
	if g, err := user.LookupGroupId(id); err == nil {
		return g.Name
	}
	return ""
}
