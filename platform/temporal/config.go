// Package temporal is a thin layer over Temporal's SDK: how a cluster is reached and its errors are told,
// a worker that outlives outages, trace contexts that travel along, and a Temporal of this machine's own.
package temporal

import (
	"errors"
	"fmt"
	"net"
	"strings"

	"holdfast/platform/certs"
	"holdfast/shop"
)

// Config says which Temporal to use.
type Config struct {
	Address    string `koanf:"address"` // host:port of the frontend; empty: there is none
	Namespace  string `koanf:"namespace"`
	Identity   string `koanf:"identity"`     // by which this process is known there
	APIKeyFile string `koanf:"api_key_file"` // a file with a key, for clusters that ask for one
	// TLS is how the connection is protected. An API key or any of these settings turns it on.
	TLS certs.TLS `koanf:"tls"`
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
	return c.TLS != certs.TLS{} || c.APIKeyFile != ""
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
