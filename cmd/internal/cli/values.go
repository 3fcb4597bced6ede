package cli

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/console"
	"github.com/containerd/errdefs"
	"github.com/urfave/cli/v2"
)

// Join is the flags of several lists, in their order.
func Join(lists ...[]cli.Flag) []cli.Flag {
	var all []cli.Flag
	for _, l := range lists {
		all = append(all, l...)
	}
	return all
}

// Environment reads the variables of files, then those of flags, which win: KEY=VALUE, or KEY alone for the value it has
// here. Empty lines of a file and those that begin with # are left out.
func Environment(files, flags []string) ([]string, error) {
	var env []string
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("--env-file: %w", err)
		}
		for line := range strings.Lines(string(data)) {
			line = strings.TrimSpace(line)
			if line != "" && !strings.HasPrefix(line, "#") {
				env = append(env, fromHere(line)...)
			}
		}
	}
	for _, e := range flags {
		env = append(env, fromHere(e)...)
	}
	return env, nil
}

// fromHere gives KEY the value it has here, and none if it has none.
func fromHere(e string) []string {
	if strings.Contains(e, "=") {
		return []string{e}
	}
	if v, ok := os.LookupEnv(e); ok {
		return []string{e + "=" + v}
	}
	return nil
}

// Pairs reads NAME=VALUE of a flag that may be repeated; nil for none.
func Pairs(flag string, list []string) (map[string]string, error) {
	if len(list) == 0 {
		return nil, nil
	}
	out := map[string]string{}
	for _, s := range list {
		k, v, ok := strings.Cut(s, "=")
		if !ok {
			return nil, fmt.Errorf("%s %s: write NAME=VALUE", flag, s)
		}
		out[k] = v
	}
	return out, nil
}

// ParseUmask reads a file mode creation mask, in octal; nil for none.
func ParseUmask(text string) (*uint32, error) {
	if text == "" {
		return nil, nil
	}
	n, err := strconv.ParseUint(text, 8, 32)
	if err != nil {
		return nil, fmt.Errorf("--umask %s: write an octal number, for example 022: %w", text, errdefs.ErrInvalidArgument)
	}
	mask := uint32(n)
	return &mask, nil
}

// AskPassword reads a line from the terminal without showing it.
func AskPassword() (string, error) {
	term, err := console.ConsoleFromFile(os.Stdin)
	if err != nil {
		return "", fmt.Errorf("no password, and no terminal to ask for it")
	}
	fmt.Fprint(os.Stderr, "Password: ")
	if err := term.DisableEcho(); err != nil {
		return "", err
	}
	defer term.Reset()
	var line string
	_, err = fmt.Fscanln(term, &line)
	fmt.Fprintln(os.Stderr)
	return line, err
}

// timeLayouts are what ParseTime reads, from the longest to the shortest; without a zone the local one is meant.
var timeLayouts = [...]string{time.RFC3339Nano, "2006-01-02T15:04:05.999999999", "2006-01-02T15:04", "2006-01-02T15", "2006-01-02Z07:00", "2006-01-02"}

// ParseTime reads a time, seconds since 1970 with or without a fraction, or how long ago; empty is the zero time.
func ParseTime(text string, now time.Time) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if d, err := time.ParseDuration(text); err == nil {
		return now.Add(-d), nil
	}
	for _, layout := range timeLayouts {
		if t, err := time.ParseInLocation(layout, text, time.Local); err == nil {
			return t, nil
		}
	}
	whole, fraction, _ := strings.Cut(text, ".")
	seconds, err := strconv.ParseInt(whole, 10, 64)
	nanoseconds := int64(0)
	if err == nil && fraction != "" {
		nanoseconds, err = strconv.ParseInt((fraction + "000000000")[:9], 10, 64)
	}
	if err != nil {
		return time.Time{}, fmt.Errorf("%q: write 2006-01-02T15:04:05Z, seconds since 1970, or how long ago, as 42m: %w", text, errdefs.ErrInvalidArgument)
	}
	return time.Unix(seconds, nanoseconds), nil
}
