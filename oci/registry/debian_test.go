package registry

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/minirt/mini/oci/name"
	"github.com/opencontainers/go-digest"
	specs "github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// distribution is Debian's docker-registry, the reference implementation.
const distribution = "/usr/bin/docker-registry"

// htpasswd is user:secret, in bcrypt.
const htpasswd = "user:$2b$04$o8sll5i4fHulJ87YPEONqueLrvrFKmDTaic9wL3ObVQ01wmpYezP.\n"

// startDistribution starts it with further lines of configuration and returns
// its host:port.
func startDistribution(t *testing.T, listener, more string) (host string, stop func()) {
	t.Helper()
	if _, err := exec.LookPath(distribution); err != nil {
		t.Skipf("%s is not installed (Debian's package docker-registry): %v", distribution, err)
	}
	dir := t.TempDir()
	host = freeAddress(t)
	write(t, filepath.Join(dir, "config.yml"), fmt.Sprintf(`version: 0.1
log: {level: error, accesslog: {disabled: true}}
storage:
  filesystem: {rootdirectory: %s}
  delete: {enabled: true}
http:
  addr: %s
  secret: test
%s
%s`, filepath.Join(dir, "data"), host, listener, more))
	cmd := exec.Command(distribution, "serve", filepath.Join(dir, "config.yml"))
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	exited := make(chan struct{})
	go func() { _ = cmd.Wait(); close(exited) }()
	stop = func() { _ = cmd.Process.Kill(); <-exited }
	t.Cleanup(func() {
		stop()
		if t.Failed() {
			t.Logf("docker-registry: %s", log.String())
		}
	})
	waitFor(t, host, exited)
	return host, stop
}

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func waitFor(t *testing.T, host string, exited <-chan struct{}) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); {
		if c, err := net.Dial("tcp", host); err == nil {
			c.Close()
			return
		}
		select {
		case <-exited:
			t.Fatal("docker-registry ended at once")
		case <-time.After(20 * time.Millisecond): // it has no way to tell that it listens
		}
	}
	t.Fatal("docker-registry does not listen")
}

// pushImage pushes a small image and returns its manifest and layer.
func pushImage(t *testing.T, c *Client, to name.Ref, o PushOptions) (manifest, layerDesc ocispec.Descriptor, data []byte) {
	t.Helper()
	data = content(3_000_000)
	config := []byte(`{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}`)
	m := ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, Config: layer(config), Layers: []ocispec.Descriptor{layer(data)}}
	m.Config.MediaType = ocispec.MediaTypeImageConfig
	for _, b := range [][]byte{config, data} {
		if _, err := c.PushBlob(t.Context(), to, layer(b), opener(b), o); err != nil {
			t.Fatal(err)
		}
	}
	raw, _ := json.Marshal(m)
	manifest = ocispec.Descriptor{MediaType: m.MediaType, Digest: digest.FromBytes(raw), Size: int64(len(raw))}
	if err := c.PushManifest(t.Context(), to, manifest, raw); err != nil {
		t.Fatal(err)
	}
	return manifest, m.Layers[0], data
}

// pullImage checks that it comes back, from the middle too.
func pullImage(t *testing.T, c *Client, from name.Ref, manifest, layerDesc ocispec.Descriptor, data []byte) {
	t.Helper()
	got, err := c.Resolve(t.Context(), from)
	if err != nil {
		t.Fatal(err)
	}
	if got.Digest != manifest.Digest || got.Size != manifest.Size || got.MediaType != manifest.MediaType {
		t.Fatalf("resolved to %+v, want %+v", got, manifest)
	}
	if _, err := c.Manifest(t.Context(), from, got); err != nil {
		t.Fatal(err)
	}
	for _, offset := range []int64{0, 1_234_567} {
		blob, err := c.Fetch(t.Context(), from, layerDesc, offset)
		if err != nil {
			t.Fatal(err)
		}
		readBlob(t, blob, data[offset:])
	}
}

func TestDistribution(t *testing.T) {
	host, _ := startDistribution(t, "", "")
	for _, chunk := range []int64{0, 1_000_000} {
		c := client(t, Options{}, nil)
		r := parseRef(t, fmt.Sprintf("%s/team/app%d:v1", host, chunk))
		manifest, l, data := pushImage(t, c, r, PushOptions{ChunkSize: chunk})
		pullImage(t, c, r, manifest, l, data)
		p, err := c.PushBlob(t.Context(), r, l, opener(data), PushOptions{})
		if err != nil || !p.Exists {
			t.Errorf("pushed again: %+v, %v", p, err)
		}
		p, err = c.PushBlob(t.Context(), parseRef(t, host+"/mounted"), l, opener(data), PushOptions{MountFrom: []string{r.Path()}})
		if err != nil || chunk == 0 && !p.Mounted {
			t.Errorf("mounted: %+v, %v", p, err)
		}
	}
	c := client(t, Options{}, nil)
	if tags, err := c.Tags(t.Context(), parseRef(t, host+"/team/app0")); err != nil || !slices.Equal(tags, []string{"v1"}) {
		t.Errorf("tags: %v, %v", tags, err)
	}
	if repos, err := c.Catalog(t.Context(), host); err != nil || !slices.Contains(repos, "team/app1000000") {
		t.Errorf("catalog: %v, %v", repos, err)
	}
	_, err := c.Resolve(t.Context(), parseRef(t, host+"/team/app0:absent"))
	fails(t, err, errdefs.ErrNotFound, "404 manifest unknown", "check the name and the tag")
	_, err = c.PushBlob(t.Context(), parseRef(t, host+"/x"), layer([]byte("a")), opener([]byte("b")), PushOptions{})
	fails(t, err, errdefs.ErrDataLoss, "digest")
}

func TestDistributionReferrersTag(t *testing.T) {
	host, _ := startDistribution(t, "", "")
	c := client(t, Options{}, nil)
	r := parseRef(t, host+"/app:v1")
	subject, _, _ := pushImage(t, c, r, PushOptions{})
	config := []byte("{}")
	if _, err := c.PushBlob(t.Context(), r, layer(config), opener(config), PushOptions{}); err != nil {
		t.Fatal(err)
	}
	m := ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, ArtifactType: "application/vnd.sig",
		Config: layer(config), Layers: []ocispec.Descriptor{layer(config)}, Subject: &subject,
	}
	raw, _ := json.Marshal(m)
	desc := ocispec.Descriptor{MediaType: m.MediaType, Digest: digest.FromBytes(raw), Size: int64(len(raw))}
	if err := c.PushManifest(t.Context(), r.TrimVersion(), desc, raw); err != nil {
		t.Fatal(err)
	}
	got, err := c.Referrers(t.Context(), r, subject.Digest, "application/vnd.sig")
	if err != nil || len(got) != 1 || got[0].Digest != desc.Digest {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestDistributionWithLogin(t *testing.T) {
	file := filepath.Join(t.TempDir(), "htpasswd")
	write(t, file, htpasswd)
	host, _ := startDistribution(t, "", "auth:\n  htpasswd: {realm: test, path: "+file+"}")
	c := client(t, given("user", "secret"), nil)
	r := parseRef(t, host+"/app:v1")
	manifest, l, data := pushImage(t, c, r, PushOptions{ChunkSize: 1_000_000})
	pullImage(t, c, r, manifest, l, data)
	_, err := client(t, Options{}, nil).Resolve(t.Context(), r)
	fails(t, err, errdefs.ErrUnauthenticated, "401", "log in with")
	_, err = client(t, given("user", "wrong"), nil).Resolve(t.Context(), r)
	fails(t, err, errdefs.ErrUnauthenticated, `the login of "user" (given) was refused`)
}

func TestDistributionWithTLS(t *testing.T) {
	dir := t.TempDir()
	makeCertificates(t, dir)
	host, _ := startDistribution(t, fmt.Sprintf("  tls: {certificate: %[1]s/server.pem, key: %[1]s/server.key, clientcas: [%[1]s/ca.crt]}", dir), "")
	toml := fmt.Sprintf("server = \"https://%s\"\nca = \"%[2]s/ca.crt\"\nclient = [[\"%[2]s/client.pem\", \"%[2]s/client.key\"]]", host, dir)
	r := parseRef(t, host+"/app:v1")
	_, port, _ := net.SplitHostPort(host)
	c := client(t, Options{}, map[string]string{"127.0.0.1_" + port + "_": toml})
	manifest, l, data := pushImage(t, c, r, PushOptions{})
	pullImage(t, c, r, manifest, l, data)

	_, err := client(t, Options{}, map[string]string{host: "server = \"https://" + host + "\""}).Resolve(t.Context(), r)
	fails(t, err, errdefs.ErrUnavailable, "unknown authority")
	_, err = client(t, Options{}, map[string]string{host: "server = \"https://" + host + "\"\nca = \"" + dir + "/ca.crt\""}).Resolve(t.Context(), r)
	fails(t, err, errdefs.ErrUnavailable, "asks for a client certificate: name one as client in hosts.toml")

	docker := t.TempDir() // Docker's layout, without hosts.toml
	for from, to := range map[string]string{"ca.crt": "ca.crt", "client.pem": "client.cert", "client.key": "client.key"} {
		data, err := readLimited(filepath.Join(dir, from), pemLimit)
		if err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(docker, host, to), string(data))
	}
	pullImage(t, client(t, Options{HostsDirs: []string{docker}}, nil), r, manifest, l, data)
}

func TestDistributionMirrors(t *testing.T) {
	origin, _ := startDistribution(t, "", "")
	dead := freeAddress(t)
	pusher := client(t, Options{}, nil)
	manifest, l, data := pushImage(t, pusher, parseRef(t, origin+"/library/app:v1"), PushOptions{})
	cache, stopCache := startDistribution(t, "", "proxy: {remoteurl: \"http://"+origin+"\"}")
	toml := fmt.Sprintf("server = \"http://%s\"\n[host.\"http://%s\"]\n[host.\"http://%s\"]\ncapabilities = [\"pull\", \"resolve\"]", origin, dead, cache)
	c := client(t, Options{}, map[string]string{"docker.io": toml})
	pullImage(t, c, parseRef(t, "app:v1"), manifest, l, data)
	stopCache()
	pullImage(t, c, parseRef(t, "app:v1"), manifest, l, data)
	_, err := c.Resolve(t.Context(), parseRef(t, "app:absent"))
	fails(t, err, errdefs.ErrNotFound, "mirror http://"+dead+": connection refused", "mirror http://"+cache+": connection refused", "http://"+origin+": 404 manifest unknown")
}

func TestDistributionBehindABadLine(t *testing.T) {
	host, _ := startDistribution(t, "", "")
	manifest, l, data := pushImage(t, client(t, Options{}, nil), parseRef(t, host+"/app:v1"), PushOptions{})
	line := cuttingProxy(t, host, 700_000)
	c := client(t, Options{}, nil)
	pullImage(t, c, parseRef(t, line+"/app:v1"), manifest, l, data)
}

// cuttingProxy forwards connections and cuts each after so many bytes of the
// answers.
func cuttingProxy(t *testing.T, to string, limit int64) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", to)
			if err != nil {
				in.Close()
				continue
			}
			go func() { _, _ = io.Copy(out, in); out.Close() }()
			go func() { _, _ = io.CopyN(in, out, limit); in.Close(); out.Close() }()
		}
	}()
	return l.Addr().String()
}

// makeCertificates writes an authority, and a server's and a client's
// certificate of it.
func makeCertificates(t *testing.T, dir string) {
	t.Helper()
	newKey := func() *ecdsa.PrivateKey {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		return key
	}
	serial := int64(0)
	template := func(cn string) *x509.Certificate {
		serial++
		return &x509.Certificate{
			SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: cn},
			NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
			IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
			KeyUsage:    x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		}
	}
	caKey, ca := newKey(), template("test authority")
	ca.IsCA, ca.BasicConstraintsValid, ca.KeyUsage = true, true, x509.KeyUsageCertSign
	sign := func(file string, cert *x509.Certificate, key *ecdsa.PrivateKey) {
		der, err := x509.CreateCertificate(rand.Reader, cert, ca, &key.PublicKey, caKey)
		if err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(dir, file), string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
		raw, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			t.Fatal(err)
		}
		keyFile := strings.TrimSuffix(file, filepath.Ext(file)) + ".key"
		write(t, filepath.Join(dir, keyFile), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw})))
	}
	sign("ca.crt", ca, caKey)
	sign("server.pem", template("server"), newKey())
	sign("client.pem", template("client"), newKey())
}
