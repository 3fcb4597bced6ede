package registry

import (
	"bytes"
	"log/slog"
	"net/url"
	"strings"
	"testing"

	"github.com/minirt/mini/oci/registry/registrytest"
)

func TestTraceHasNoSecrets(t *testing.T) {
	other := registrytest.New(t, registrytest.Options{})
	r := registrytest.New(t, registrytest.Options{Auth: "token", Username: "user", Password: "geheim", BlobRedirect: other.URL()})
	desc := r.PutBlob("a", content(10))
	other.PutBlob("a", content(10))
	var log bytes.Buffer
	o := given("user", "geheim")
	o.Trace, o.Logger = true, slog.New(slog.NewTextHandler(&log, nil))
	blob, err := client(t, o, nil).Fetch(t.Context(), ref(t, r, "a"), desc, 5)
	if err != nil {
		t.Fatal(err)
	}
	blob.Close()
	text := log.String()
	for _, want := range []string{"method=GET", "/v2/a/blobs/" + desc.Digest.String(), "status=401", "status=206", "auth=none", "auth=\"bearer as", "auth=\"basic from", "range=", "redirected="} {
		if !strings.Contains(text, want) {
			t.Errorf("the trace lacks %q", want)
		}
	}
	for _, q := range r.Requests() {
		if h := q.Header.Get("Authorization"); h != "" && strings.Contains(text, strings.Fields(h)[1]) {
			t.Errorf("the trace shows %q", h)
		}
	}
	if strings.Contains(text, "geheim") {
		t.Error("the trace shows the password")
	}
	if t.Failed() {
		t.Log(text)
	}
}

func TestShown(t *testing.T) {
	u, _ := url.Parse("https://u:p@s3.example/x?X-Amz-Signature=abc&ns=docker.io&digest=sha256%3Aaa")
	if got := shown(u); got != "https://s3.example/x?X-Amz-Signature=***&digest=sha256%3Aaa&ns=docker.io" {
		t.Errorf("got %s", got)
	}
}
