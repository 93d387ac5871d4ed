package engines

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

// Certificates are files in PEM for a client of a server with TLS.
type Certificates struct {
	Authority         string // who signs the server's certificate, and the clients'
	ClientCertificate string
	ClientKey         string

	server string // the server's key and certificate in one file, as Kafka wants it
}

// Certify makes an authority, and what it signs for a server on 127.0.0.1 and its clients. All end in an hour; that
// of the server may have ended an hour ago.
func Certify(t testing.TB, expired bool) Certificates {
	t.Helper()
	c, err := makeCertificates(t.TempDir(), expired)
	must(t, err)
	return c
}

// makeCertificates is Certify for those who have a directory.
func makeCertificates(dir string, expired bool) (c Certificates, err error) {
	now := time.Now()
	template := func(serial int64, name string) *x509.Certificate {
		return &x509.Certificate{SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: name},
			NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour), KeyUsage: x509.KeyUsageDigitalSignature}
	}
	authority := template(1, "authority for tests")
	authority.IsCA, authority.BasicConstraintsValid, authority.KeyUsage = true, true, x509.KeyUsageCertSign
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return c, err
	}
	c = Certificates{Authority: filepath.Join(dir, "authority.pem"), ClientCertificate: filepath.Join(dir, "client.pem"),
		ClientKey: filepath.Join(dir, "client-key.pem"), server: filepath.Join(dir, "server.pem")}
	der, err := x509.CreateCertificate(rand.Reader, authority, authority, &key.PublicKey, key)
	if err != nil {
		return c, err
	}
	if err := writePEM(c.Authority, &pem.Block{Type: "CERTIFICATE", Bytes: der}); err != nil {
		return c, err
	}
	server := template(2, "server")
	server.IPAddresses, server.DNSNames = []net.IP{net.IPv4(127, 0, 0, 1)}, []string{"localhost"}
	server.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	if expired {
		server.NotBefore, server.NotAfter = now.Add(-2*time.Hour), now.Add(-time.Hour)
	}
	certBlock, keyBlock, err := sign(server, authority, key)
	if err != nil {
		return c, err
	}
	if err := writePEM(c.server, keyBlock, certBlock); err != nil {
		return c, err
	}
	client := template(3, "client")
	client.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	if certBlock, keyBlock, err = sign(client, authority, key); err != nil {
		return c, err
	}
	if err := writePEM(c.ClientCertificate, certBlock); err != nil {
		return c, err
	}
	return c, writePEM(c.ClientKey, keyBlock)
}

func sign(template, authority *x509.Certificate, by *ecdsa.PrivateKey) (cert, key *pem.Block, err error) {
	own, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	der, err := x509.CreateCertificate(rand.Reader, template, authority, &own.PublicKey, by)
	if err != nil {
		return nil, nil, err
	}
	private, err := x509.MarshalPKCS8PrivateKey(own)
	if err != nil {
		return nil, nil, err
	}
	return &pem.Block{Type: "CERTIFICATE", Bytes: der}, &pem.Block{Type: "PRIVATE KEY", Bytes: private}, nil
}

func writePEM(name string, blocks ...*pem.Block) error {
	var b []byte
	for _, block := range blocks {
		b = append(b, pem.EncodeToMemory(block)...)
	}
	return os.WriteFile(name, b, 0o600)
}
