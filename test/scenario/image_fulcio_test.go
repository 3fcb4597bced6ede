package scenario_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/minirt/mini/internal/testenv"
)

// authority is what Fulcio is: it certifies who has a key, for ten minutes.
type authority struct {
	File  string // its certificate, PEM
	chain []byte // PEM of it and those above, of one that another has certified
	cert  *x509.Certificate
	key   *ecdsa.PrivateKey
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// newAuthority makes one that stands by itself, or that another has certified.
func newAuthority(t testing.TB, above *authority) *authority {
	t.Helper()
	a := &authority{File: filepath.Join(testenv.Dir(t), "fulcio.pem"), key: newKey(t)}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "an authority"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	parent, key := template, a.key
	if above != nil {
		parent, key = above.cert, above.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &a.key.PublicKey, key)
	if err == nil {
		a.cert, err = x509.ParseCertificate(der)
	}
	if err != nil {
		t.Fatal(err)
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	if above != nil {
		a.chain = append(text, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: above.cert.Raw})...)
	}
	putFile(t, a.File, text)
	return a
}

// certify makes a certificate for who has proved that an address is theirs, to an issuer (Fulcio's extensions: the first has
// the bare text, the one that took its place an ASN.1 string).
func (a *authority) certify(t testing.TB, key *ecdsa.PrivateKey, email, issuer string) []byte {
	t.Helper()
	extension := pkix.Extension{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 57264, 1, 1}, Value: []byte(issuer)}
	if a.chain != nil {
		value, err := asn1.MarshalWithParams(issuer, "utf8")
		if err != nil {
			t.Fatal(err)
		}
		extension = pkix.Extension{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 57264, 1, 8}, Value: value}
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), EmailAddresses: []string{email}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning},
		NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(9 * time.Minute),
		ExtraExtensions: []pkix.Extension{extension},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// transparency is what Rekor is: it says when it was shown a signature.
type transparency struct {
	File string // its public key, PEM
	key  *ecdsa.PrivateKey
}

func newTransparency(t testing.TB) *transparency {
	t.Helper()
	l := &transparency{File: filepath.Join(testenv.Dir(t), "rekor.pub"), key: newKey(t)}
	der, err := x509.MarshalPKIXPublicKey(&l.key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	putFile(t, l.File, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
	return l
}

// enter makes the log's promise of an entry, as cosign keeps it beside the signature. Maps of Go are in canonical order.
func (l *transparency) enter(t testing.TB, payload, signature, certificate []byte, at time.Time) string {
	t.Helper()
	encode := func(v any) []byte {
		data, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	sum := sha256.Sum256(payload)
	body := encode(map[string]any{"apiVersion": "0.0.1", "kind": "hashedrekord", "spec": map[string]any{
		"data":      map[string]any{"hash": map[string]string{"algorithm": "sha256", "value": hex.EncodeToString(sum[:])}},
		"signature": map[string]any{"content": signature, "publicKey": map[string]any{"content": certificate}},
	}})
	entry := map[string]any{"body": body, "integratedTime": at.Unix(), "logIndex": 7, "logID": hex.EncodeToString(make([]byte, 32))}
	told := sha256.Sum256(encode(entry))
	promise, err := ecdsa.SignASN1(rand.Reader, l.key, told[:])
	if err != nil {
		t.Fatal(err)
	}
	return string(encode(map[string]any{"SignedEntryTimestamp": promise, "Payload": entry}))
}

// TestImageTrustWithoutKeys pulls images that somebody has signed whose address, not whose key, the policy knows.
func TestImageTrustWithoutKeys(t *testing.T) {
	testenv.Binary(t, "minid-trust")
	const issuer, email = "https://accounts.example", "builder@tests.example"
	image := testenv.Image(t, "busybox")
	r := testenv.Registry(t, testenv.RegistryOptions{})
	fulcio, rekor := newAuthority(t, nil), newTransparency(t)
	policy := filepath.Join(testenv.Dir(t), "policy.json")
	d := testenv.Daemon(t, testenv.DaemonOptions{Config: fmt.Sprintf("[image]\nsignature_policy = %q\n", policy)})
	ref := r.Ref("busybox")
	want := func(ca, log string, caValue, logValue any) {
		t.Helper()
		writePolicy(t, policy, map[string][]requirement{ref: {{
			"type": "sigstoreSigned", log: logValue, "signedIdentity": map[string]string{"type": "matchRepository"},
			"fulcio": map[string]any{ca: caValue, "oidcIssuer": issuer, "subjectEmail": email},
		}}})
	}
	want("caPath", "rekorPublicKeyPath", fulcio.File, rekor.File)
	payload := claim("cosign container image signature", ref, image.Digest)
	sign := func(by *authority, to *transparency, email, issuer string, at time.Time) {
		t.Helper()
		key := newKey(t)
		certificate := by.certify(t, key, email, issuer)
		sum := sha256.Sum256(payload)
		signature, err := ecdsa.SignASN1(rand.Reader, key, sum[:])
		if err != nil {
			t.Fatal(err)
		}
		proof := map[string]string{
			"dev.cosignproject.cosign/signature": base64.StdEncoding.EncodeToString(signature),
			"dev.sigstore.cosign/certificate":    string(certificate),
		}
		if by.chain != nil {
			proof["dev.sigstore.cosign/chain"] = string(by.chain)
		}
		if to != nil {
			proof["dev.sigstore.cosign/bundle"] = to.enter(t, payload, signature, certificate, at)
		}
		attachSignature(t, ref, digest.Digest(image.Digest), payload, proof)
	}
	now := time.Now()
	for _, bad := range []struct {
		what string
		sign func()
		says string
	}{
		{"another authority", func() { sign(newAuthority(t, nil), rekor, email, issuer, now) }, "certificate signed by unknown authority"},
		{"another address", func() { sign(fulcio, rekor, "other@tests.example", issuer, now) }, "Required email"},
		{"another issuer", func() { sign(fulcio, rekor, email, "https://other.example", now) }, "https://other.example"},
		{"no log", func() { sign(fulcio, nil, email, issuer, now) }, "dev.sigstore.cosign/bundle"},
		{"another log", func() { sign(fulcio, newTransparency(t), email, issuer, now) }, "verification of Rekor SET failed"},
		{"entered after the certificate's end", func() { sign(fulcio, rekor, email, issuer, now.Add(20*time.Minute)) }, "certificate has expired"},
	} {
		bad.sign()
		t.Log(bad.what)
		refused(t, d.Try("images", "pull", ref), "is refused by", bad.says)
	}
	sign(fulcio, rekor, email, issuer, now)
	d.Minictr("images", "pull", "-q", ref)
	data := func(path string) []byte { // base64 in JSON, as the policy has it
		t.Helper()
		text, err := os.ReadFile(path)
		check(t, err)
		return text
	}
	other := newTransparency(t)
	want("caData", "rekorPublicKeyData", data(fulcio.File), data(rekor.File))
	d.Minictr("images", "pull", "-q", ref)
	want("caPath", "rekorPublicKeyPaths", fulcio.File, []string{other.File, rekor.File})
	d.Minictr("images", "pull", "-q", ref)
	want("caPath", "rekorPublicKeyDatas", fulcio.File, [][]byte{data(other.File)})
	refused(t, d.Try("images", "pull", ref), "is refused by", "verification of Rekor SET failed")
	want("caPath", "rekorPublicKeyPath", fulcio.File, rekor.File)
	sign(newAuthority(t, fulcio), rekor, email, issuer, now)
	d.Minictr("images", "pull", "-q", ref)
	if out := d.Minictr("run", "--rm", ref, "signed", "echo", "trusted"); out != "trusted\n" {
		t.Errorf("it says %q", out)
	}
}
