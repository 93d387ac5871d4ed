package app

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"

	"holdfast/shop"
)

// The files that Run leaves in the data directory for others.
const (
	KeyFile       = "dev-api-key"
	AddressesFile = "addresses.json"
)

// Addresses are where the parts of a running Holdfast listen.
type Addresses struct {
	API     string `json:"api"`
	Admin   string `json:"admin"`
	PSP     string `json:"psp"`
	Carrier string `json:"carrier"`
	Kafka   string `json:"kafka"`

	Temporal   string `json:"temporal,omitempty"`    // where there is one
	TemporalUI string `json:"temporal_ui,omitempty"` // the web page of our own
}

func (a Addresses) write(files shop.Files, dir string) error {
	b, err := json.MarshalIndent(a, "", "  ")
	if err != nil {
		return err
	}
	return files.WriteFile(filepath.Join(dir, AddressesFile), append(b, '\n'), 0o644)
}

// secrets are made once per data directory.
type secrets struct {
	Instance string `json:"instance"` // names this installation to the bus and to the relays' leases
	PSP      string `json:"psp_webhook"`
	Carrier  string `json:"carrier_webhook"`
}

const secretsFile = "secrets.json"

func loadSecrets(deps shop.Deps, dir string) (s secrets, err error) {
	name := filepath.Join(dir, secretsFile)
	b, err := deps.Files.ReadFile(name)
	switch {
	case err == nil:
		if err := json.Unmarshal(b, &s); err != nil || s.Instance == "" || s.PSP == "" || s.Carrier == "" {
			return s, fmt.Errorf("%s cannot be read; restore it, or remove it to have a new one made", name)
		}
		return s, nil
	case !errors.Is(err, fs.ErrNotExist):
		return s, err
	}
	s = secrets{Instance: deps.IDs.New("run"), PSP: webhookSecret(deps), Carrier: webhookSecret(deps)}
	b, err = json.MarshalIndent(s, "", "  ")
	if err != nil {
		return s, err
	}
	return s, deps.Files.WriteFile(name, b, 0o600)
}

func webhookSecret(deps shop.Deps) string {
	var raw [32]byte
	deps.IDs.Secret(raw[:])
	return "whsec_" + base64.StdEncoding.EncodeToString(raw[:])
}

// loadKey returns the development key of a data directory.
func loadKey(deps shop.Deps, dir string) (string, error) {
	name := filepath.Join(dir, KeyFile)
	b, err := deps.Files.ReadFile(name)
	if err == nil {
		return strings.TrimSpace(string(b)), nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	var raw [24]byte
	deps.IDs.Secret(raw[:])
	key := "hf_dev_" + hex.EncodeToString(raw[:])
	return key, deps.Files.WriteFile(name, []byte(key+"\n"), 0o600)
}
