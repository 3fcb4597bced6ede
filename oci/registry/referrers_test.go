package registry

import (
	"encoding/json"
	"sort"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/minirt/mini/oci/registry/registrytest"
	"github.com/opencontainers/go-digest"
	specs "github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// artifact makes a manifest that refers to a subject.
func artifact(r *registrytest.Registry, subject ocispec.Descriptor, artifactType, note string) (ocispec.Descriptor, []byte) {
	config := r.PutBlob("a", []byte("{}"))
	config.MediaType = "application/vnd.test.config"
	m := ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, ArtifactType: artifactType,
		Config: config, Subject: &subject, Annotations: map[string]string{"note": note},
	}
	data, _ := json.Marshal(m)
	return ocispec.Descriptor{MediaType: m.MediaType, Digest: digest.FromBytes(data), Size: int64(len(data))}, data
}

func TestReferrers(t *testing.T) {
	for name, o := range map[string]registrytest.Options{
		"api": {}, "pages": {PageSize: 1}, "tag": {NoReferrers: true}, "tag with login": {NoReferrers: true, Auth: "token", Username: "u", Password: "p"},
	} {
		t.Run(name, func(t *testing.T) {
			r := registrytest.New(t, o)
			c := client(t, given("u", "p"), nil)
			subject, _ := r.PutImage("a", "1", nil)
			if got, err := c.Referrers(t.Context(), ref(t, r, "a"), subject.Digest, ""); err != nil || len(got) != 0 {
				t.Fatalf("before: got %v, %v", got, err)
			}
			for _, a := range [][2]string{{"sig", "one"}, {"sig", "two"}, {"", "three"}} {
				desc, data := artifact(r, subject, a[0], a[1])
				for range 2 { // pushing twice changes nothing
					if err := c.PushManifest(t.Context(), ref(t, r, "a").TrimVersion(), desc, data); err != nil {
						t.Fatal(err)
					}
				}
			}
			for wanted, notes := range map[string]string{"": "one three two", "sig": "one two", "application/vnd.test.config": "three", "none": ""} {
				got, err := c.Referrers(t.Context(), ref(t, r, "a"), subject.Digest, wanted)
				if err != nil {
					t.Fatal(err)
				}
				var found []string
				for _, d := range got {
					found = append(found, d.Annotations["note"])
				}
				sort.Strings(found)
				if strings.Join(found, " ") != notes {
					t.Errorf("%q: got %v, want %s", wanted, found, notes)
				}
			}
			tag := r.Manifest("a", referrersTagName(subject.Digest))
			if (tag != nil) != o.NoReferrers {
				t.Errorf("the tag is %s", tag)
			}
		})
	}
}

func TestReferrersOfNonsense(t *testing.T) {
	r := registrytest.New(t, registrytest.Options{NoReferrers: true})
	subject, _ := r.PutImage("a", "1", nil)
	r.PutManifest("a", referrersTagName(subject.Digest), ocispec.MediaTypeImageIndex, []byte(`{"schemaVersion":2,"manifests":[{"digest":"x"}]}`))
	_, err := client(t, Options{}, nil).Referrers(t.Context(), ref(t, r, "a"), subject.Digest, "")
	fails(t, err, errdefs.ErrUnavailable, "not an index of referrers")
	_, err = client(t, Options{}, nil).Referrers(t.Context(), ref(t, r, "a"), "sha256:x", "")
	fails(t, err, errdefs.ErrInvalidArgument)
}

func TestReferrersTagName(t *testing.T) {
	for d, want := range map[digest.Digest]string{
		digest.FromString("x"):        "sha256-" + digest.FromString("x").Encoded(),
		digest.SHA512.FromString("x"): "sha512-" + digest.SHA512.FromString("x").Encoded()[:64],
	} {
		if got := referrersTagName(d); got != want {
			t.Errorf("%s: %s", d, got)
		}
	}
}

func FuzzManifestType(f *testing.F) {
	f.Add("application/json", []byte(`{"schemaVersion":2,"manifests":[]}`))
	f.Add("", []byte(`{"mediaType":"x"}`))
	f.Fuzz(func(t *testing.T, contentType string, data []byte) {
		if mediaType, err := manifestType(contentType, data); err == nil && mediaType == "" {
			t.Error("no media type and no error")
		}
		_ = subjectOf(data)
		_, _ = parseReferrers(data)
		_, _ = parseErrorBody(data)
	})
}
