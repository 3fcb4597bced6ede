package main

import (
	"bufio"
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const text = "alpha one\nBeta two\nab+c (x)\nalphabet\n\nx{2} xx\n"

// TestLikeDebian compares with the system's grep.
func TestLikeDebian(t *testing.T) {
	theirs, err := exec.LookPath("grep")
	if err != nil {
		t.Skip("there is no grep to compare with")
	}
	dir := t.TempDir()
	for name, content := range map[string]string{"a": text, "b": "two\nalpha", "d/c": "alpha in d\n"} {
		os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755)
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	t.Chdir(dir)
	for _, line := range []string{
		"alpha a", "-n alpha a b", "-c a a b", "-l two a b", "-q alpha a", "-q nothing a", "-i beta a", "-v a a", "-w alpha a",
		"-x alphabet a", "-E al(pha|ps) a", "-E x{2} a", "x{2} a", "ab+c a", "ab\\+ a", "-F b+c a", "-e one -e two a", "-o [a-z]* a",
		"-r alpha .", "-h alpha a b", "-H alpha a", "-m 1 a a", "\\(al\\)pha a", "[]x] a", "[^]a-z] a", "-E (one|two)$ a b", "-c nothing a",
		"alpha", "alpha nofile a", "-s alpha nofile", "^$ a", "-vc ^$ a", "-no alpha a",
	} {
		args := strings.Fields(line)
		cmd := exec.Command(theirs, args...)
		cmd.Stdin = strings.NewReader(text)
		want, _ := cmd.Output()
		g, files, err := parse(args)
		if err != nil {
			t.Errorf("%s: %v", line, err)
			continue
		}
		var out bytes.Buffer
		g.out, g.errs, g.in = bufio.NewWriter(&out), &bytes.Buffer{}, strings.NewReader(text)
		code := g.run(files)
		if code != cmd.ProcessState.ExitCode() || sorted(line, out.String()) != sorted(line, string(want)) {
			t.Errorf("grep %s: %d\n%s, not %d\n%s", line, code, out.String(), cmd.ProcessState.ExitCode(), want)
		}
	}
}

// sorted leaves the order of files in directories out.
func sorted(line, out string) string {
	if !strings.Contains(line, "-r") {
		return out
	}
	lines := strings.Split(strings.ReplaceAll(out, "./", ""), "\n")
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

func TestMistakes(t *testing.T) {
	for _, line := range []string{"", "-m 0 a", "-m x a", "-Z a", "-E ( a"} {
		if _, _, err := parse(strings.Fields(line)); err == nil {
			t.Errorf("grep %s was taken", line)
		}
	}
}
