package spec

import (
	"bytes"
	"encoding/json"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// patchRule applies the request's merge patch to the finished document.
func patchRule(b *builder) error {
	if len(b.req.Patch) == 0 {
		return nil
	}
	patched, err := Patch(b.spec, b.req.Patch)
	if err != nil {
		return err
	}
	b.spec = patched
	return nil
}

// Patch applies an RFC 7396 merge patch to a document: objects are merged, null removes, everything else replaces.
// Fields that the runtime spec does not have are refused: a misspelt one would be lost in silence.
func Patch(s *specs.Spec, patch []byte) (*specs.Spec, error) {
	var change any
	if err := decodeExact(patch, &change); err != nil {
		return nil, invalid("the patch isn't valid JSON: %v", err)
	}
	if _, object := change.(map[string]any); !object {
		return nil, invalid("the patch must be a JSON object")
	}
	data, err := json.Marshal(s)
	if err != nil {
		return nil, err
	}
	var document any
	if err := decodeExact(data, &document); err != nil {
		return nil, err
	}
	if data, err = json.Marshal(mergePatch(document, change)); err != nil {
		return nil, err
	}
	strict := json.NewDecoder(bytes.NewReader(data))
	strict.DisallowUnknownFields()
	out := &specs.Spec{}
	if err := strict.Decode(out); err != nil {
		return nil, invalid("the patched document isn't a runtime-spec one: %v", err)
	}
	return out, nil
}

// mergePatch is the algorithm of RFC 7396, section 2.
func mergePatch(target, patch any) any {
	change, ok := patch.(map[string]any)
	if !ok {
		return patch
	}
	object, ok := target.(map[string]any)
	if !ok {
		object = make(map[string]any, len(change))
	}
	for k, v := range change {
		if v == nil {
			delete(object, k)
		} else {
			object[k] = mergePatch(object[k], v)
		}
	}
	return object
}

// decodeExact keeps numbers as they are written: a 64-bit limit does not fit a float.
func decodeExact(data []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	if err := d.Decode(v); err != nil {
		return err
	}
	if d.More() {
		return invalid("there is more than one JSON value")
	}
	return nil
}
