// Package temporal is a thin layer over Temporal's SDK: how a cluster is reached and its errors are told,
// a worker that outlives outages, trace contexts that travel along, and a Temporal of this machine's own.
package temporal

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"strings"

	"holdfast/shop"
)

// Config says which Temporal to use.
type Config struct {
	Address    string `koanf:"address"` // host:port of the frontend; empty: there is none
	Namespace  string `koanf:"namespace"`
	Identity   string `koanf:"identity"`     // by which this process is known there
	APIKeyFile string `koanf:"api_key_file"` // a file with a key, for clusters that ask for one
	TLS        TLS    `koanf:"tls"`
}

// TLS is how the connection is protected. An API key or any of these settings turns it on.
type TLS struct {
	Enabled    bool   `koanf:"enabled"`
	CAFile     string `koanf:"ca_file"`   // whom to trust; the system's authorities by default
	CertFile   string `koanf:"cert_file"` // our own certificate, where the cluster wants one
	KeyFile    string `koanf:"key_file"`
	ServerName string `koanf:"server_name"` // in the cluster's certificate, where it is not the address's
}

// Defaults returns the settings used where nothing is configured.
func Defaults() Config { return Config{Namespace: "default", Identity: "holdfast"} }

// Validate names the first setting that cannot work.
func (c Config) Validate() error {
	if c.Address != "" {
		if _, _, err := net.SplitHostPort(c.Address); err != nil {
			return fmt.Errorf("temporal.address is %q; it must be host:port, as in 127.0.0.1:7233", c.Address)
		}
	}
	switch {
	case c.Namespace == "":
		return errors.New("temporal.namespace must not be empty; a new cluster has the namespace default")
	case (c.TLS.CertFile == "") != (c.TLS.KeyFile == ""):
		return errors.New("temporal.tls.cert_file and temporal.tls.key_file belong together")
	}
	return nil
}

// secured tells whether the connection is to be by TLS.
func (c Config) secured() bool {
	return c.TLS != TLS{} || c.APIKeyFile != ""
}

// tls reads the certificates.
func (c Config) tls(files shop.Files) (*tls.Config, error) {
	out := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: c.TLS.ServerName}
	if c.TLS.CAFile != "" {
		pem, err := files.ReadFile(c.TLS.CAFile)
		if err != nil {
			return nil, fmt.Errorf("temporal.tls.ca_file cannot be read: %w", err)
		}
		out.RootCAs = x509.NewCertPool()
		if !out.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("temporal.tls.ca_file %s holds no certificate in PEM", c.TLS.CAFile)
		}
	}
	if c.TLS.CertFile != "" {
		cert, err := files.ReadFile(c.TLS.CertFile)
		if err != nil {
			return nil, fmt.Errorf("temporal.tls.cert_file cannot be read: %w", err)
		}
		key, err := files.ReadFile(c.TLS.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("temporal.tls.key_file cannot be read: %w", err)
		}
		pair, err := tls.X509KeyPair(cert, key)
		if err != nil {
			return nil, fmt.Errorf("temporal.tls.cert_file %s and temporal.tls.key_file are not a pair: %w", c.TLS.CertFile, err)
		}
		out.Certificates = []tls.Certificate{pair}
	}
	return out, nil
}

// apiKey reads the key.
func (c Config) apiKey(files shop.Files) (string, error) {
	b, err := files.ReadFile(c.APIKeyFile)
	if err != nil {
		return "", fmt.Errorf("temporal.api_key_file cannot be read: %w", err)
	}
	key := strings.TrimSpace(string(b))
	if key == "" {
		return "", fmt.Errorf("temporal.api_key_file %s is empty", c.APIKeyFile)
	}
	return key, nil
}
