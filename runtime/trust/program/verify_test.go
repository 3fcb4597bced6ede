//go:build containers_image_openpgp

package program

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/opencontainers/go-digest"

	"github.com/minirt/mini/runtime/trust"
)

// world is a policy that wants a PGP key's signature for one repository, and a web server beside the registry.
type world struct {
	entity    *openpgp.Entity
	request   trust.VerifyRequest
	manifest  []byte
	signature []byte // what the server has; nil: nothing
	status    int    // other than 200
	asked     int    // for material
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{manifest: []byte(`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json"}`), status: http.StatusOK}
	dir := t.TempDir()
	var err error
	if w.entity, err = openpgp.NewEntity("a", "", "a@example.com", nil); err != nil {
		t.Fatal(err)
	}
	var ring bytes.Buffer
	if err := w.entity.Serialize(&ring); err != nil {
		t.Fatal(err)
	}
	d := digest.FromBytes(w.manifest)
	server := httptest.NewServer(http.HandlerFunc(func(a http.ResponseWriter, r *http.Request) {
		want := fmt.Sprintf("/sigs/b/c@sha256=%s/signature-1", d.Encoded())
		switch {
		case w.status != http.StatusOK:
			a.WriteHeader(w.status)
		case r.URL.Path == want && w.signature != nil:
			_, _ = a.Write(w.signature)
		default:
			http.NotFound(a, r)
		}
	}))
	t.Cleanup(server.Close)
	policy := fmt.Sprintf(`{"default":[{"type":"reject"}],"transports":{"docker":{
		"a.example/b":[{"type":"signedBy","keyType":"GPGKeys","keyPath":%q}],
		"a.example/free":[{"type":"insecureAcceptAnything"}]}}}`, filepath.Join(dir, "ring"))
	for name, data := range map[string]string{
		"ring": ring.String(), "policy.json": policy, "d/default.yaml": "default-docker:\n  lookaside: " + server.URL + "/sigs\n",
	} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(data), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	w.request = trust.VerifyRequest{Image: "a.example/b/c:tag", Digest: d, Policy: filepath.Join(dir, "policy.json"), RegistriesD: filepath.Join(dir, "d"), Directory: t.TempDir()}
	return w
}

// sign makes a signature of a claim.
func (w *world) sign(t *testing.T, ref string, d digest.Digest) []byte {
	t.Helper()
	text := fmt.Sprintf(`{"critical":{"identity":{"docker-reference":%q},"image":{"docker-manifest-digest":%q},"type":"atomic container signature"},"optional":{}}`, ref, d)
	var out bytes.Buffer
	to, err := openpgp.Sign(&out, w.entity, nil, nil)
	if err == nil {
		_, err = to.Write([]byte(text))
	}
	if err == nil {
		err = to.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestVerify(t *testing.T) {
	other := digest.FromString("another manifest")
	for _, row := range []struct {
		name    string
		change  func(t *testing.T, w *world)
		allowed bool
		refused string // a part of the reason
		fails   string // a part of the error
		asked   int
	}{
		{"signed", func(t *testing.T, w *world) { w.signature = w.sign(t, "a.example/b/c:tag", w.request.Digest) }, true, "", "", 1},
		{"signed, by its digest", func(t *testing.T, w *world) {
			w.request.Image = "a.example/b/c:tag@" + w.request.Digest.String()
			w.signature = w.sign(t, "a.example/b/c:tag", w.request.Digest)
		}, true, "", "", 1},
		{"not signed", nil, false, "none was found", "", 1},
		{"signed for another tag", func(t *testing.T, w *world) { w.signature = w.sign(t, "a.example/b/c:other", w.request.Digest) }, false, "Signature for identity", "", 1},
		{"signed for another image", func(t *testing.T, w *world) { w.signature = w.sign(t, "a.example/b/c:tag", other) }, false, "Signature for digest", "", 1},
		{"signed by another", func(t *testing.T, w *world) { w.signature = newWorld(t).sign(t, "a.example/b/c:tag", w.request.Digest) }, false, "", "", 1},
		{"noise for a signature", func(_ *testing.T, w *world) { w.signature = []byte("noise") }, false, "", "", 1},
		{"free", func(_ *testing.T, w *world) { w.request.Image = "a.example/free/x:y" }, true, "", "", 0},
		{"not in the policy", func(_ *testing.T, w *world) { w.request.Image = "b.example/x:y" }, false, "rejected by policy", "", 0},
		{"the server is broken", func(_ *testing.T, w *world) { w.status = http.StatusInternalServerError }, false, "", "500", 1},
		{"the manifest is another", func(_ *testing.T, w *world) { w.manifest = []byte("{}") }, false, "", "digest", 1},
		{"no policy", func(_ *testing.T, w *world) { w.request.Policy += ".gone" }, false, "", "signature policy", 0},
		{"no name", func(_ *testing.T, w *world) { w.request.Image = "A B" }, false, "", "A B", 0},
	} {
		t.Run(row.name, func(t *testing.T) {
			w := newWorld(t)
			if row.change != nil {
				row.change(t, w)
			}
			reply, err := verify(t.Context(), w.request, func() (trust.Material, error) {
				w.asked++
				return trust.Material{Manifest: w.manifest}, nil
			})
			switch {
			case row.fails != "":
				if err == nil || !strings.Contains(err.Error(), row.fails) {
					t.Errorf("error %v, want %q", err, row.fails)
				}
			case err != nil:
				t.Error(err)
			case reply.Allowed != row.allowed || reply.Allowed == (reply.Refused != "") || !strings.Contains(reply.Refused, row.refused):
				t.Errorf("%+v", reply)
			}
			if w.asked != row.asked {
				t.Errorf("the material was asked for %d times, want %d", w.asked, row.asked)
			}
		})
	}
}

// TestVerifyKept judges by signatures that are given: the server is not asked.
func TestVerifyKept(t *testing.T) {
	w := newWorld(t)
	w.status = http.StatusInternalServerError
	m := trust.Material{Manifest: w.manifest, Signatures: [][]byte{w.sign(t, "a.example/b/c:tag", w.request.Digest)}, Complete: true}
	reply, err := verify(context.Background(), w.request, func() (trust.Material, error) { return m, nil })
	if err != nil || !reply.Allowed {
		t.Errorf("%+v, %v", reply, err)
	}
}

func TestAnswers(t *testing.T) {
	ask := func(in string) (trust.Reply, int, string) {
		var out, complaints bytes.Buffer
		code := Main(strings.NewReader(in), &out, &complaints)
		var reply trust.Reply
		if out.Len() > 0 {
			if err := json.Unmarshal(out.Bytes(), &reply); err != nil {
				t.Errorf("%q: the answer %q: %v", in, out.String(), err)
			}
		}
		return reply, code, complaints.String()
	}
	if reply, code, _ := ask(`{}`); code != 0 || reply.Error == "" {
		t.Errorf("no question: %+v, code %d", reply, code)
	}
	if _, code, said := ask(`nonsense`); code != 2 || !strings.Contains(said, "question") {
		t.Errorf("nonsense: code %d, %q", code, said)
	}
	if reply, code, _ := ask(`{"unwrap":{"keysDir":"","layers":[]}}`); code != 0 || reply.Error != "" {
		t.Errorf("no layers: %+v, code %d", reply, code)
	}
}
