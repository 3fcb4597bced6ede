package image

import (
	"encoding/json"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/errdefs"
)

// Change applies instructions of a Dockerfile to a configuration: those that docker commit and docker import take, which
// change nothing but the configuration. Each text has one or several lines. A command clears one that it was the argument
// of: after ENTRYPOINT, the old CMD means nothing, unless CMD is among the instructions too.
// https://docs.docker.com/reference/dockerfile/
//
// Errors: ErrInvalidArgument, with the instruction.
func (c *Config) Change(texts ...string) error {
	x := changer{c: c}
	for _, text := range texts {
		for _, line := range instructions(text) {
			if err := x.apply(line); err != nil {
				return fmt.Errorf("change %q: %w", line, err)
			}
		}
	}
	return nil
}

// maxInstruction bounds what one line becomes when its variables have their values, in bytes.
const maxInstruction = 1 << 20

func refuse(format string, args ...any) error {
	return fmt.Errorf(format+": %w", append(args, errdefs.ErrInvalidArgument)...)
}

// instructions are the lines that are neither empty nor comments, those that end with a backslash joined with the next.
func instructions(text string) []string {
	var out []string
	var line strings.Builder
	for part := range strings.SplitSeq(strings.ReplaceAll(text, "\r\n", "\n"), "\n") {
		if trimmed := strings.TrimSpace(part); strings.HasPrefix(trimmed, "#") || trimmed == "" && line.Len() > 0 {
			continue
		}
		if rest, more := strings.CutSuffix(strings.TrimRight(part, " \t"), `\`); more {
			line.WriteString(rest)
			continue
		}
		line.WriteString(part)
		if whole := strings.TrimSpace(line.String()); whole != "" {
			out = append(out, whole)
		}
		line.Reset()
	}
	if whole := strings.TrimSpace(line.String()); whole != "" {
		out = append(out, whole)
	}
	return out
}

type changer struct {
	c      *Config
	cmdSet bool
}

func (x *changer) apply(line string) error {
	word, rest := cutWord(line)
	c := x.c
	switch strings.ToUpper(word) {
	case "CMD":
		c.Cmd, x.cmdSet = x.command(rest), true
		return nil
	case "ENTRYPOINT":
		c.Entrypoint = x.command(rest)
		if !x.cmdSet {
			c.Cmd = nil
		}
		return nil
	case "ONBUILD":
		return x.onBuild(rest)
	case "HEALTHCHECK":
		return x.healthCheck(rest)
	case "ENV":
		return x.pairs(rest, func(key, value string) { c.Env = setEnv(c.Env, key, value) })
	case "LABEL":
		if c.Labels == nil {
			c.Labels = map[string]string{}
		} else {
			c.Labels = copied(c.Labels)
		}
		return x.pairs(rest, func(key, value string) { c.Labels[key] = value })
	case "EXPOSE", "VOLUME":
		return x.set(strings.ToUpper(word), rest)
	case "USER", "WORKDIR", "STOPSIGNAL":
		return x.one(strings.ToUpper(word), rest)
	}
	return refuse("%s is not an instruction that changes an image's configuration: use CMD, ENTRYPOINT, ENV, EXPOSE, HEALTHCHECK, LABEL, ONBUILD, STOPSIGNAL, USER, VOLUME or WORKDIR", word)
}

func cutWord(text string) (word, rest string) {
	if i := strings.IndexAny(text, " \t"); i >= 0 {
		return text[:i], strings.TrimSpace(text[i:])
	}
	return text, ""
}

// jsonList reads the exec form; what is not quite JSON is the shell form, as with docker.
func jsonList(text string) ([]string, bool) {
	if !strings.HasPrefix(text, "[") {
		return nil, false
	}
	var list []string
	if err := json.Unmarshal([]byte(text), &list); err != nil {
		return nil, false
	}
	return list, true
}

// command is a command line in either form; an empty one is none.
func (x *changer) command(text string) []string {
	if list, ok := jsonList(text); ok {
		if len(list) == 0 {
			return nil
		}
		return list
	}
	if text == "" {
		return nil
	}
	shell := x.c.Shell
	if len(shell) == 0 {
		shell = []string{"/bin/sh", "-c"}
	}
	return append(slices.Clone(shell), text)
}

func (x *changer) onBuild(text string) error {
	word, _ := cutWord(text)
	switch strings.ToUpper(word) {
	case "":
		return refuse("ONBUILD wants an instruction")
	case "ONBUILD":
		return refuse("ONBUILD of ONBUILD is not allowed")
	case "MAINTAINER", "FROM":
		return refuse("%s is not allowed as an ONBUILD trigger", strings.ToUpper(word))
	}
	x.c.OnBuild = append(slices.Clone(x.c.OnBuild), text)
	return nil
}

// pairs reads NAME=VALUE…, or the old form NAME VALUE with all the rest of the line.
func (x *changer) pairs(text string, set func(key, value string)) error {
	words, err := x.words(text, false)
	if err != nil {
		return err
	}
	if len(words) == 0 {
		return refuse("wants NAME=VALUE")
	}
	if !strings.Contains(words[0], "=") {
		key, rest := cutWord(text)
		value, err := x.expand(rest)
		if err != nil {
			return err
		}
		if rest == "" || key == "" {
			return refuse("%s has no value: write NAME=VALUE", key)
		}
		set(key, value)
		return nil
	}
	// The values are those of before the instruction: A=1 B=$A has the old A.
	expanded := make([][2]string, 0, len(words))
	for _, w := range words {
		w, err := x.expand(w)
		if err != nil {
			return err
		}
		key, value, ok := strings.Cut(w, "=")
		if !ok || key == "" {
			return refuse("%q is not NAME=VALUE", w)
		}
		expanded = append(expanded, [2]string{key, value})
	}
	for _, p := range expanded {
		set(p[0], p[1])
	}
	return nil
}

// set adds to the sets of ports and volumes.
func (x *changer) set(instruction, text string) error {
	list, isJSON := jsonList(text)
	if !isJSON || instruction == "EXPOSE" {
		words, err := x.words(text, true)
		if err != nil {
			return err
		}
		list = words
	}
	if len(list) == 0 {
		return refuse("%s wants at least one argument", instruction)
	}
	for _, v := range list {
		if instruction == "EXPOSE" {
			ports, err := parsePorts(v)
			if err != nil {
				return err
			}
			x.c.ExposedPorts = with(x.c.ExposedPorts, ports...)
			continue
		}
		if v = strings.TrimSpace(v); v == "" {
			return refuse("VOLUME: the path is empty")
		}
		x.c.Volumes = with(x.c.Volumes, v)
	}
	return nil
}

// one sets what has one value.
func (x *changer) one(instruction, text string) error {
	value, err := x.expand(text)
	if err != nil {
		return err
	}
	if value = strings.TrimSpace(value); value == "" {
		return refuse("%s wants one argument", instruction)
	}
	switch instruction {
	case "USER":
		if strings.ContainsAny(value, " \t") {
			return refuse("USER wants one argument")
		}
		x.c.User = value
	case "STOPSIGNAL":
		if strings.ContainsAny(value, " \t") {
			return refuse("STOPSIGNAL wants one argument")
		}
		x.c.StopSignal = value
	case "WORKDIR":
		if !path.IsAbs(value) {
			value = path.Join("/", x.c.WorkingDir, value)
		}
		x.c.WorkingDir = path.Clean(value)
	}
	return nil
}

// healthCheck reads [--interval=DURATION …] CMD COMMAND, or NONE.
func (x *changer) healthCheck(text string) error {
	h := &HealthCheck{}
	flagged := strings.HasPrefix(text, "--")
	for strings.HasPrefix(text, "--") {
		var flag string
		flag, text = cutWord(text)
		key, value, ok := strings.Cut(strings.TrimPrefix(flag, "--"), "=")
		if !ok {
			return refuse("flag %s: write it with its value, as --interval=30s", flag)
		}
		if err := h.flag(key, value); err != nil {
			return err
		}
	}
	word, rest := cutWord(text)
	switch strings.ToUpper(word) {
	case "NONE":
		if rest != "" || flagged {
			return refuse("HEALTHCHECK NONE takes no arguments")
		}
		h.Test = []string{"NONE"}
	case "CMD":
		list, isJSON := jsonList(rest)
		switch {
		case isJSON && len(list) > 0:
			h.Test = append([]string{"CMD"}, list...)
		case rest == "" || isJSON:
			return refuse("HEALTHCHECK CMD wants a command")
		default:
			h.Test = []string{"CMD-SHELL", rest}
		}
	default:
		return refuse("HEALTHCHECK wants CMD or NONE, not %q", word)
	}
	x.c.Healthcheck = h
	return nil
}

func (h *HealthCheck) flag(key, value string) error {
	if key == "retries" {
		n, err := strconv.ParseUint(value, 10, 31)
		if err != nil {
			return refuse("--retries=%s: write a number", value)
		}
		h.Retries = int(n)
		return nil
	}
	times := map[string]*time.Duration{"interval": &h.Interval, "timeout": &h.Timeout, "start-period": &h.StartPeriod, "start-interval": &h.StartInterval}
	to := times[key]
	if to == nil {
		return refuse("flag --%s is not known", key)
	}
	d, err := time.ParseDuration(value)
	if err != nil || d < 0 || d != 0 && d < time.Millisecond {
		return refuse("--%s=%s: write a duration, as 30s, of at least 1ms", key, value)
	}
	*to = d
	return nil
}

// parsePorts reads PORT[-PORT][/PROTOCOL].
func parsePorts(text string) ([]string, error) {
	ports, protocol, _ := strings.Cut(text, "/")
	if protocol == "" {
		protocol = "tcp"
	}
	if protocol = strings.ToLower(protocol); !slices.Contains([]string{"tcp", "udp", "sctp"}, protocol) {
		return nil, refuse("port %q: the protocol is tcp, udp or sctp", text)
	}
	first, last, ranged := strings.Cut(ports, "-")
	if !ranged {
		last = first
	}
	from, err := strconv.ParseUint(first, 10, 16)
	to, err2 := strconv.ParseUint(last, 10, 16)
	if err != nil || err2 != nil || from == 0 || to < from {
		return nil, refuse("port %q: ports go from 1 to 65535", text)
	}
	var out []string
	for p := from; p <= to; p++ {
		out = append(out, fmt.Sprintf("%d/%s", p, protocol))
	}
	return out, nil
}

func with(set map[string]struct{}, names ...string) map[string]struct{} {
	out := make(map[string]struct{}, len(set)+len(names))
	for n := range set {
		out[n] = struct{}{}
	}
	for _, n := range names {
		out[n] = struct{}{}
	}
	return out
}

func copied(m map[string]string) map[string]string {
	out := make(map[string]string, len(m))
	for k, v := range m {
		out[k] = v
	}
	return out
}

func setEnv(env []string, key, value string) []string {
	out := slices.Clone(env)
	for i, kv := range out {
		if k, _, _ := strings.Cut(kv, "="); k == key {
			out[i] = key + "=" + value
			return out
		}
	}
	return append(out, key+"="+value)
}
