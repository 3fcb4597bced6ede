// Command ps lists processes: ps, ps -ef, ps aux and ps -o COLUMN,… [-p PID].
package main

import (
	"fmt"
	"os"
	"os/user"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/minirt/mini/toolbox/internal/proc"
)

func main() {
	columns, pids, err := parse(os.Args[1:])
	if err == nil {
		err = show(columns, pids)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "ps:", err)
		os.Exit(1)
	}
}

func parse(args []string) (columns []string, pids []string, err error) {
	columns = []string{"pid", "user", "time", "args"}
	for i := 0; i < len(args); i++ {
		arg := strings.TrimPrefix(args[i], "-")
		switch {
		case (arg == "o" || arg == "p") && i+1 < len(args):
			i++
			list := strings.FieldsFunc(args[i], func(r rune) bool { return r == ',' || r == ' ' })
			if arg == "o" {
				columns = list
			} else {
				pids = list
			}
		case strings.Contains(arg, "u"):
			columns = []string{"user", "pid", "vsz", "rss", "tty", "stat", "start", "time", "args"}
		case strings.Contains(arg, "f"):
			columns = []string{"user", "pid", "ppid", "start", "tty", "time", "args"}
		case strings.Trim(arg, "eAaxwl") != "":
			return nil, nil, fmt.Errorf("%s: not an option; there are -e -f -A a u x, -o COLUMN,… and -p PID", args[i])
		}
	}
	for _, c := range columns {
		if _, err := value(proc.Process{}, c); err != nil {
			return nil, nil, err
		}
	}
	return columns, pids, nil
}

func show(columns, pids []string) error {
	list, err := proc.List()
	if err != nil {
		return err
	}
	w := tabwriter.NewWriter(os.Stdout, 5, 8, 2, ' ', 0)
	fmt.Fprintln(w, strings.ToUpper(strings.Join(columns, "\t")))
	for _, p := range list {
		if len(pids) > 0 && !slices.Contains(pids, strconv.Itoa(p.PID)) {
			continue
		}
		row := make([]string, len(columns))
		for i, c := range columns {
			row[i], _ = value(p, c)
		}
		fmt.Fprintln(w, strings.Join(row, "\t"))
	}
	return w.Flush()
}

func value(p proc.Process, column string) (string, error) {
	switch column {
	case "pid":
		return strconv.Itoa(p.PID), nil
	case "ppid":
		return strconv.Itoa(p.PPID), nil
	case "user":
		if u, err := user.LookupId(p.UID); err == nil {
			return u.Username, nil
		}
		return p.UID, nil
	case "uid":
		return p.UID, nil
	case "stat", "s", "state":
		return p.State, nil
	case "tty":
		return p.TTY, nil
	case "rss":
		return strconv.FormatInt(p.RSS, 10), nil
	case "vsz":
		return strconv.FormatInt(p.VSZ, 10), nil
	case "start", "stime":
		return p.Start.Format("15:04"), nil
	case "time":
		s := int(p.CPU.Seconds())
		return fmt.Sprintf("%d:%02d", s/60, s%60), nil
	case "comm":
		return p.Name, nil
	case "args", "cmd", "command":
		return p.Command(), nil
	default:
		return "", fmt.Errorf("%s: no such column", column)
	}
}
