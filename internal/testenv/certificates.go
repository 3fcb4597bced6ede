package testenv

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// Authority signs certificates of servers and clients.
type Authority struct {
	File        string // its own certificate, in PEM
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

// NewAuthority makes an authority whose certificate is in the file.
func NewAuthority(t testing.TB, file string) *Authority {
	t.Helper()
	a, err := newAuthority(file)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// Issue writes a certificate for 127.0.0.1, localhost and the addresses, good for servers and clients until the given
// time, and its key.
func (a *Authority) Issue(t testing.TB, name, certFile, keyFile string, until time.Time, addresses ...string) {
	t.Helper()
	c := template(time.Now().UnixNano(), name)
	c.NotBefore, c.NotAfter = until.Add(-48*time.Hour), until
	for _, address := range addresses {
		c.IPAddresses = append(c.IPAddresses, net.ParseIP(address))
	}
	if err := a.sign(c, certFile, keyFile); err != nil {
		t.Fatal(err)
	}
}

func (r *RegistryServer) makeCertificates() error {
	r.CA = filepath.Join(r.Dir, "ca.crt")
	r.ClientCert, r.ClientKey = filepath.Join(r.Dir, "client.cert"), filepath.Join(r.Dir, "client.key")
	ca, err := newAuthority(r.CA)
	if err != nil {
		return err
	}
	if err := ca.issue(2, "server", filepath.Join(r.Dir, "server.crt"), filepath.Join(r.Dir, "server.key")); err != nil {
		return err
	}
	return ca.issue(3, "client", r.ClientCert, r.ClientKey)
}

func template(serial int64, name string) *x509.Certificate {
	return &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
	}
}

func newAuthority(file string) (*Authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	t := template(1, "the tests' authority")
	t.IsCA, t.BasicConstraintsValid, t.KeyUsage = true, true, x509.KeyUsageCertSign
	der, err := x509.CreateCertificate(rand.Reader, t, t, &key.PublicKey, key)
	if err != nil {
		return nil, err
	}
	return &Authority{File: file, certificate: t, key: key}, writePEM(file, "CERTIFICATE", der)
}

// issue writes a certificate for 127.0.0.1 and localhost, good for servers and clients, and its key.
func (a *Authority) issue(serial int64, name, certFile, keyFile string) error {
	return a.sign(template(serial, name), certFile, keyFile)
}

func (a *Authority) sign(t *x509.Certificate, certFile, keyFile string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	t.DNSNames, t.IPAddresses = []string{"localhost"}, append(t.IPAddresses, net.IPv4(127, 0, 0, 1), net.IPv6loopback)
	t.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	der, err := x509.CreateCertificate(rand.Reader, t, a.certificate, &key.PublicKey, a.key)
	if err != nil {
		return err
	}
	keyDER, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return err
	}
	if err := writePEM(certFile, "CERTIFICATE", der); err != nil {
		return err
	}
	return writePEM(keyFile, "EC PRIVATE KEY", keyDER)
}

func writePEM(file, kind string, der []byte) error {
	return os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600)
}
