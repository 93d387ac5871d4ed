// Package certs reads the certificates for a connection by TLS, and names the setting where one is of no use.
package certs

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"

	"holdfast/shop"
)

// TLS says how the connections to a server are protected.
type TLS struct {
	Enabled    bool   `koanf:"enabled"`
	CAFile     string `koanf:"ca_file"`     // PEM; "": the authorities that this machine knows
	CertFile   string `koanf:"cert_file"`   // PEM, ours, where the server wants one
	KeyFile    string `koanf:"key_file"`    // PEM
	ServerName string `koanf:"server_name"` // "": the host of each address
}

// Config reads the files. An error begins with the setting that is at fault: the name of these settings, as
// "temporal.tls", and which of them.
func (t TLS) Config(name string, deps shop.Deps) (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: t.ServerName, Time: deps.Clock.Now}
	if t.CAFile != "" {
		b, err := read(name+".ca_file", t.CAFile, deps)
		if err != nil {
			return nil, err
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(b) {
			return nil, fmt.Errorf("%s.ca_file: there is no certificate in %s", name, t.CAFile)
		}
	}
	if t.CertFile == "" {
		return config, nil
	}
	cert, err := read(name+".cert_file", t.CertFile, deps)
	if err != nil {
		return nil, err
	}
	key, err := deps.Files.ReadFile(t.KeyFile)
	if err != nil {
		return nil, fmt.Errorf("%s.key_file: it cannot be read: %w", name, err)
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return nil, fmt.Errorf("%s.cert_file and key_file: they do not make a pair: %w", name, err)
	}
	config.Certificates = []tls.Certificate{pair}
	return config, nil
}

// read reads a file of certificates, of which the first, which is the one that matters, is not past its time.
func read(setting, file string, deps shop.Deps) ([]byte, error) {
	b, err := deps.Files.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("%s: it cannot be read: %w", setting, err)
	}
	block, _ := pem.Decode(b)
	if block == nil {
		return b, nil // whoever uses it will say so
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%s: the certificate in %s cannot be read: %w", setting, file, err)
	}
	if deps.Clock.Now().After(cert.NotAfter) {
		return nil, fmt.Errorf("%s: the certificate in %s expired at %s", setting, file, cert.NotAfter.UTC().Format("2006-01-02 15:04:05 MST"))
	}
	return b, nil
}
