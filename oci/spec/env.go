package spec

import (
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// defaultPath is the search path of a container whose image names none: the one Docker and containerd use.
const defaultPath = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// envRule sets the environment: the defaults, the image's over them, then what is missing of PATH, HOSTNAME, TERM and HOME,
// then the request's.
func envRule(b *builder) error {
	env := environment{}
	env.setDefault(defaultPath)
	if b.spec.Process.Terminal {
		env.setDefault("TERM=xterm")
	}
	if h := b.req.Hostname; h != "" {
		env.setDefault("HOSTNAME=" + h)
	} else if h := b.spec.Hostname; h != "" {
		env.setDefault("HOSTNAME=" + h)
	} else if own, _ := b.namespace(specs.UTSNamespace); !own && b.host.Hostname != "" {
		env.setDefault("HOSTNAME=" + b.host.Hostname)
	}
	for _, kv := range b.in.Defaults.Env {
		if err := env.apply(kv); err != nil {
			return err
		}
	}
	for _, kv := range b.in.Image.Env {
		if strings.Contains(kv, "=") { // an image's KEY alone says nothing
			if err := env.apply(kv); err != nil {
				return err
			}
		}
	}
	for _, kv := range b.req.Env {
		if err := env.apply(kv); err != nil {
			return err
		}
	}
	if b.home != "" && !b.unset("HOME") {
		env.setDefault("HOME=" + b.home)
	}
	b.spec.Process.Env = env.list
	return nil
}

// unset tells whether the request removes a variable by naming it without a value.
func (b *builder) unset(key string) bool {
	for _, kv := range b.req.Env {
		if kv == key {
			return true
		}
	}
	return false
}

// keyOf is the name of a variable KEY=VALUE.
func keyOf(kv string) string {
	key, _, _ := strings.Cut(kv, "=")
	return key
}

// environment is a list of KEY=VALUE with each key once, in the order of first mention.
type environment struct{ list []string }

// apply sets KEY=VALUE, or removes KEY.
func (e *environment) apply(kv string) error {
	key, _, set := strings.Cut(kv, "=")
	if key == "" {
		return invalid("environment %q has no name before the =", kv)
	}
	if strings.ContainsRune(kv, 0) {
		return invalid("environment variable %q has a NUL byte, which no program can receive", key)
	}
	at := e.index(key)
	switch {
	case at >= 0 && set:
		e.list[at] = kv
	case at >= 0:
		e.list = append(e.list[:at], e.list[at+1:]...)
	case set:
		e.list = append(e.list, kv)
	}
	return nil
}

// setDefault sets KEY=VALUE unless the key is there.
func (e *environment) setDefault(kv string) {
	if e.index(keyOf(kv)) < 0 {
		e.list = append(e.list, kv)
	}
}

// get returns the value of a key.
func (e *environment) get(key string) (string, bool) {
	at := e.index(key)
	if at < 0 {
		return "", false
	}
	return e.list[at][len(key)+1:], true
}

func (e *environment) index(key string) int {
	for i, kv := range e.list {
		if len(kv) > len(key) && kv[len(key)] == '=' && kv[:len(key)] == key {
			return i
		}
	}
	return -1
}
