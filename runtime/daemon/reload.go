package daemon

import (
	"reflect"
	"slices"
	"strings"
)

// reloadable are the keys that a running daemon obeys at once; a table stands for all its keys.
var reloadable = [...]string{
	"log_level", "registry.config_path", "registry.docker_config", "registry.registries_conf", "gc.interval",
	"image", "cri", "default_runtime", "runtimes",
}

// fixed are those among them that need a restart all the same.
var fixed = [...]string{
	"cri.stream_address", "cri.stream_cert", "cri.stream_key", "cri.stream_idle_timeout", "cri.tuning_root", "cri.irqbalance_config_file",
	"image.trust_program", "image.pull_progress_timeout", "image.layer_part_size", "image.max_concurrent_unpacks", "image.sync_fs",
}

// differences compares two configurations and lists the keys that changed: those that a reload brings into force, and
// those that need a restart.
func differences(now, next Config) (changed, needRestart []string) {
	for _, key := range knownKeys() {
		if slices.Contains(key, "*") {
			continue // the whole map is compared
		}
		a, b := value(reflect.ValueOf(now), key), value(reflect.ValueOf(next), key)
		if a.Kind() == reflect.Struct || reflect.DeepEqual(a.Interface(), b.Interface()) {
			continue
		}
		if name := strings.Join(key, "."); isReloadable(name) {
			changed = append(changed, name)
		} else {
			needRestart = append(needRestart, name)
		}
	}
	return changed, needRestart
}

// merge is now with the reloadable settings of next.
func merge(now, next Config) Config {
	out := now
	changed, _ := differences(now, next)
	for _, name := range changed {
		key := strings.Split(name, ".")
		value(reflect.ValueOf(&out).Elem(), key).Set(value(reflect.ValueOf(next), key))
	}
	return out
}

func isReloadable(name string) bool {
	return !slices.Contains(fixed[:], name) && slices.ContainsFunc(reloadable[:], func(r string) bool { return name == r || strings.HasPrefix(name, r+".") })
}

// value finds a setting by its key.
func value(v reflect.Value, key []string) reflect.Value {
	for _, part := range key {
		for i := range v.NumField() {
			if v.Type().Field(i).Tag.Get("toml") == part {
				v = v.Field(i)
				break
			}
		}
	}
	return v
}
