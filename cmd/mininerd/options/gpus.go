package options

import (
	"encoding/csv"
	"fmt"
	"strconv"
	"strings"
)

// GPURequest is what --gpus asks for.
type GPURequest struct {
	Count        int      // -1: all
	IDs          []string // these, instead of a number
	Driver       string
	Capabilities []string
	Options      map[string]string
}

// GPUs reads docker's --gpus: all, a number, or a list of device=, count=, driver=, capabilities= and options=. The zero
// request is none.
func GPUs(text string) (GPURequest, error) {
	var r GPURequest
	if text == "" {
		return r, nil
	}
	if quoted := strings.Trim(text, `'`); strings.HasPrefix(quoted, `device=`) { // the shell's quotes are gone: its commas are the list's
		text = `"` + quoted + `"`
	}
	fields, err := csv.NewReader(strings.NewReader(strings.Trim(text, `'`))).Read()
	if err != nil {
		return r, invalid("--gpus %s: %w", text, err)
	}
	for _, field := range fields {
		key, value, valued := strings.Cut(field, "=")
		if !valued {
			key, value = "count", field
		}
		switch key {
		case "count":
			if r.Count, err = gpuCount(value); err != nil {
				return r, err
			}
		case "device":
			r.IDs = strings.Split(value, ",")
		case "driver":
			r.Driver = value
		case "capabilities":
			r.Capabilities = strings.Split(value, ",")
		case "options":
			if r.Options, err = pairs("--gpus options", strings.Split(value, ",")); err != nil {
				return r, err
			}
		default:
			return r, invalid("--gpus %s: unexpected key '%s': use all, a number, or device=0,1", text, key)
		}
	}
	if r.Count == 0 && len(r.IDs) == 0 {
		r.Count = 1
	}
	if r.Count != 0 && len(r.IDs) > 0 {
		return r, invalid("--gpus %s: cannot set both count and device", text)
	}
	return r, nil
}

func gpuCount(text string) (int, error) {
	if text == "all" || text == "-1" {
		return -1, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		return 0, invalid("--gpus: count %s: use all or a number", text)
	}
	return n, nil
}

// devices are the CDI devices of the request (https://github.com/cncf-tags/container-device-interface): of the vendor that
// the driver names, NVIDIA when it names none.
func (r GPURequest) devices() []string {
	vendor := "nvidia.com"
	if r.Driver != "" && r.Driver != "nvidia" && r.Driver != "cdi" {
		vendor = r.Driver + ".com"
	}
	prefix := vendor + "/gpu="
	if r.Count < 0 {
		return []string{prefix + "all"}
	}
	ids := r.IDs
	for i := range r.Count {
		ids = append(ids, fmt.Sprint(i))
	}
	var all []string
	for _, id := range ids {
		all = append(all, prefix+id)
	}
	return all
}
