package app

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"

	"holdfast/platform/httpx"
	"holdfast/shop"
	"holdfast/svc/payment"
	"holdfast/svc/shipping"
)

// minToken is the shortest internal token that is taken.
const minToken = 32

// Secrets are what must not be seen. Each is a setting, or a file of Dir.
type Secrets struct {
	// Dir is a directory with a file for each secret, as an orchestrator mounts them: api_keys with a caller
	// and its key on each line; webhook_psp, webhook_carrier and internal_tokens with one on each line, the
	// current one first; store_password; bus_password.
	Dir string `koanf:"dir"`

	APIKeys        map[string]string   `koanf:"api_keys"`        // by caller
	Webhooks       map[string][]string `koanf:"webhooks"`        // of the parties psp and carrier: the current one and, while it is being changed, another
	InternalTokens []string            `koanf:"internal_tokens"` // the current one, which is sent; others are taken, too
	StorePassword  string              `koanf:"store_password"`
	BusPassword    string              `koanf:"bus_password"`
}

// String hides them: a configuration is printed now and then.
func (Secrets) String() string { return "(secrets)" }

// Load adds what is in the files of Dir. A setting wins over a file.
func (s *Secrets) Load(files shop.Files) error {
	if s.Dir == "" {
		return nil
	}
	if _, err := files.ReadDir(s.Dir); err != nil {
		return fmt.Errorf("secrets.dir %q cannot be read: %w", s.Dir, err)
	}
	if s.Webhooks == nil {
		s.Webhooks = map[string][]string{}
	}
	keys, err := lines(files, s.Dir, "api_keys")
	if err != nil {
		return err
	}
	if len(s.APIKeys) == 0 {
		s.APIKeys = map[string]string{}
		for i, line := range keys {
			caller, key, ok := strings.Cut(line, " ")
			if !ok {
				return fmt.Errorf("secrets.dir: line %d of api_keys is not a caller, a space and a key", i+1)
			}
			s.APIKeys[caller] = strings.TrimSpace(key)
		}
	}
	for _, party := range []string{payment.WebhookParty, shipping.WebhookParty} {
		if len(s.Webhooks[party]) == 0 {
			if s.Webhooks[party], err = lines(files, s.Dir, "webhook_"+party); err != nil {
				return err
			}
		}
	}
	if len(s.InternalTokens) == 0 {
		if s.InternalTokens, err = lines(files, s.Dir, "internal_tokens"); err != nil {
			return err
		}
	}
	for name, into := range map[string]*string{"store_password": &s.StorePassword, "bus_password": &s.BusPassword} {
		found, err := lines(files, s.Dir, name)
		if err != nil {
			return err
		}
		if *into == "" && len(found) > 0 {
			*into = found[0]
		}
	}
	return nil
}

// lines returns the lines of a file that say something; none where there is no file.
func lines(files shop.Files, dir, name string) ([]string, error) {
	b, err := files.ReadFile(filepath.Join(dir, name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("secrets.dir: %s cannot be read: %w", name, err)
	}
	var found []string
	for line := range strings.Lines(string(b)) {
		if line = strings.TrimSpace(line); line != "" {
			found = append(found, line)
		}
	}
	return found, nil
}

// validate names what a process lacks.
func (s Secrets) validate(c Config) error {
	if c.stateful() && len(s.APIKeys) == 0 {
		return errors.New("secrets.api_keys is empty, so nobody could call the API: name callers and their keys, or put the file api_keys into secrets.dir")
	}
	if _, err := s.keys(); err != nil {
		return err
	}
	for service, party := range map[string]string{payment.Name: payment.WebhookParty, shipping.Name: shipping.WebhookParty} {
		if c.Has(service) && len(s.Webhooks[party]) == 0 {
			return fmt.Errorf("secrets.webhooks.%s is empty, so no message of the %s could be believed: set it to the secret that it signs with (whsec_…), or put the file webhook_%s into secrets.dir", party, party, party)
		}
	}
	for _, token := range s.InternalTokens {
		if len(token) < minToken {
			return fmt.Errorf("secrets.internal_tokens has one of fewer than %d characters; use openssl rand -hex 32", minToken)
		}
	}
	if c.servesInside() && !loopback(c.InternalAddr) && len(s.InternalTokens) == 0 {
		return fmt.Errorf("secrets.internal_tokens is empty, and internal_addr %s can be reached from other machines: set a token, the same for all services, or put the file internal_tokens into secrets.dir", c.InternalAddr)
	}
	return nil
}

func (s Secrets) keys() (httpx.Keys, error) {
	callers := make(map[string]shop.Caller, len(s.APIKeys))
	for caller, key := range s.APIKeys {
		if _, taken := callers[key]; taken {
			return nil, fmt.Errorf("secrets.api_keys has one key for two callers, of which one is %s", caller)
		}
		callers[key] = shop.Caller(caller)
	}
	keys, err := httpx.NewKeys(callers)
	if err != nil {
		return nil, fmt.Errorf("secrets.api_keys: %w", err)
	}
	return keys, nil
}
