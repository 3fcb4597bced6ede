// Command build makes the toolbox image: it compiles u-root's commands (the tool block of go.mod) and our own (cmd/) into
// one static binary, and writes an OCI archive around it. The same sources and the same Go give the same bytes.
//
//	go run ./build -o FILE
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

const (
	uroot   = "github.com/u-root/u-root/cmds/core/"
	makebb  = "github.com/u-root/gobusybox/src/cmd/makebb"
	maxSize = 15 << 20 // bytes; the archive is carried by the daemon's binary
)

func main() {
	out := flag.String("o", "toolbox.tar", "`file` to write the OCI archive to")
	flag.Parse()
	if err := run(context.Background(), *out); err != nil {
		fmt.Fprintln(os.Stderr, "toolbox:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, out string) error {
	packages, err := commands(ctx)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "toolbox")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	binary := filepath.Join(dir, "bb")
	if err := compile(ctx, binary, packages); err != nil {
		return err
	}
	program, err := os.ReadFile(binary)
	if err != nil {
		return err
	}
	names := make([]string, len(packages))
	for i, p := range packages {
		names[i] = path.Base(p)
	}
	archive, err := image(program, names)
	if err != nil {
		return err
	}
	if len(archive) > maxSize {
		return fmt.Errorf("the archive has %d bytes, more than the %d allowed", len(archive), maxSize)
	}
	if err := os.MkdirAll(filepath.Dir(out), 0o755); err != nil {
		return err
	}
	fmt.Printf("%s: %d commands, binary %.1f MiB, archive %.1f MiB\n", out, len(names), mib(len(program)), mib(len(archive)))
	return os.WriteFile(out, archive, 0o644)
}

func mib(n int) float64 { return float64(n) / (1 << 20) }

// commands lists the packages that become commands, ours over u-root's of the same name.
func commands(ctx context.Context) ([]string, error) {
	data, err := exec.CommandContext(ctx, "go", "mod", "edit", "-json").Output()
	if err != nil {
		return nil, fmt.Errorf("reading go.mod: %w", err)
	}
	var mod struct{ Tool []struct{ Path string } }
	if err := json.Unmarshal(data, &mod); err != nil {
		return nil, err
	}
	ours, err := filepath.Glob("cmd/*/main.go")
	if err != nil || len(ours) == 0 {
		return nil, fmt.Errorf("no cmd/*/main.go here; run it in the toolbox directory")
	}
	byName := map[string]string{}
	for _, tool := range mod.Tool {
		if strings.HasPrefix(tool.Path, uroot) {
			byName[path.Base(tool.Path)] = tool.Path
		}
	}
	for _, main := range ours {
		dir := filepath.Dir(main)
		byName[filepath.Base(dir)] = "./" + dir
	}
	var packages []string
	for _, p := range byName {
		packages = append(packages, p)
	}
	slices.SortFunc(packages, func(a, b string) int { return strings.Compare(path.Base(a), path.Base(b)) })
	return packages, nil
}

func compile(ctx context.Context, binary string, packages []string) error {
	args := []string{
		"tool", makebb, "-o", binary,
		"-go-extra-args=-trimpath", "-go-extra-args=-buildvcs=false", "-go-extra-args=-ldflags=-s -w -buildid=",
	}
	cmd := exec.CommandContext(ctx, "go", append(args, packages...)...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if output, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("makebb: %w\n%s", err, output)
	}
	return nil
}
