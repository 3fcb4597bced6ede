package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// object is a message as a JSON object.
func object(m proto.Message) (map[string]any, error) {
	data, err := messageJSON(m)
	if err != nil {
		return nil, err
	}
	return decodeObject(data)
}

// decodeObject keeps numbers as they are written: identifiers and sizes do not fit into a float.
func decodeObject(data []byte) (map[string]any, error) {
	var o map[string]any
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	err := d.Decode(&o)
	return o, err
}

// wholeObject is an object in which messages that are not set are null.
func wholeObject(m proto.Message) (map[string]any, error) {
	o, err := object(m)
	if err != nil {
		return nil, err
	}
	fields := m.ProtoReflect().Descriptor().Fields()
	for i := range fields.Len() {
		if name := fields.Get(i).JSONName(); !has(o, name) {
			o[name] = nil
		}
	}
	return o, nil
}

func has(o map[string]any, name string) bool {
	_, ok := o[name]
	return ok
}

// stamp is a time in nanoseconds since the epoch, readable; one that was not yet is the zero time.
func stamp(ns int64, was bool) string {
	if !was {
		return time.Time{}.Format(time.RFC3339Nano)
	}
	return time.Unix(0, ns).Format(time.RFC3339Nano)
}

func containerObject(s *cri.ContainerStatus) (map[string]any, error) {
	o, err := wholeObject(s)
	if err != nil {
		return nil, err
	}
	o["createdAt"] = stamp(s.CreatedAt, true)
	o["startedAt"] = stamp(s.StartedAt, s.State != cri.ContainerState_CONTAINER_CREATED)
	o["finishedAt"] = stamp(s.FinishedAt, s.State == cri.ContainerState_CONTAINER_EXITED ||
		s.State == cri.ContainerState_CONTAINER_UNKNOWN && s.FinishedAt > 0)
	return o, nil
}

func podObject(s *cri.PodSandboxStatus) (map[string]any, error) {
	o, err := wholeObject(s)
	if err != nil {
		return nil, err
	}
	o["createdAt"] = stamp(s.CreatedAt, true)
	return o, nil
}

// inspection is an object's status with what the runtime adds of its own: info is a map of texts, of which those that
// are JSON objects are put in as such.
func inspection(status map[string]any, info map[string]string) (map[string]any, error) {
	all := map[string]any{"status": status}
	for _, k := range sortedKeys(info) {
		v := info[k]
		if !strings.HasPrefix(v, "{") {
			all[k] = strings.Trim(v, `"`)
			continue
		}
		o, err := decodeObject([]byte(v))
		if err != nil {
			return nil, fmt.Errorf("the runtime's information %q is no JSON: %w", k, err)
		}
		all[k] = o
	}
	return all, nil
}

// printInspections prints one object alone, several as a list.
func printInspections(w io.Writer, all []map[string]any, format, text string) error {
	var value any = all
	switch len(all) {
	case 0:
		return nil
	case 1:
		value = all[0]
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	if err := e.Encode(value); err != nil {
		return err
	}
	return printJSON(w, bytes.TrimSuffix(b.Bytes(), []byte{'\n'}), format, text)
}
