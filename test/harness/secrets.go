package harness

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"

	"holdfast/app/local"
)

// Secrets are those of the webhooks, as Holdfast made them.
type Secrets struct {
	PSP     string `json:"psp_webhook"`
	Carrier string `json:"carrier_webhook"`
}

// ReadSecrets reads them and the API key from a data directory.
func ReadSecrets(dir string) (s Secrets, key string, err error) {
	b, err := os.ReadFile(filepath.Join(dir, "secrets.json"))
	if err == nil {
		err = json.Unmarshal(b, &s)
	}
	k, e := os.ReadFile(filepath.Join(dir, local.KeyFile))
	return s, strings.TrimSpace(string(k)), errors.Join(err, e)
}
