package carrier

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"time"

	"holdfast/shop"
	"holdfast/sim/party"
)

const (
	// restOfWorld stands for the countries that have no fee of their own.
	restOfWorld = "*"
	// maxRate is the highest fee, in minor units.
	maxRate = 1_000_000
)

// country is how ISO 3166-1 alpha-2 writes one. Which codes are in use is not checked: they change.
var country = regexp.MustCompile(`^[A-Z]{2}$`)

// rate is the fee for a parcel to a country.
type rate struct {
	Country string      `json:"country"`
	Amount  shop.Amount `json:"amount"`
}

// validateRates names the first fee that cannot be.
func validateRates(rates map[string]int64) error {
	if _, ok := rates[restOfWorld]; !ok {
		return errors.New("carrier_sim.rates must have *, the fee for every country that is not listed")
	}
	for _, r := range sortedRates(rates) {
		switch {
		case r.Country != restOfWorld && !country.MatchString(r.Country):
			return fmt.Errorf("carrier_sim.rates has %q; a country must be two capital letters, or * for the rest", r.Country)
		case r.Amount < 0 || r.Amount > maxRate:
			return fmt.Errorf("carrier_sim.rates has %d for %s; a fee must be from 0 to %d, in minor units", r.Amount, r.Country, maxRate)
		}
	}
	return nil
}

// sortedRates returns the fees by country, the rest first.
func sortedRates(rates map[string]int64) []rate {
	list := make([]rate, 0, len(rates))
	for _, c := range slices.Sorted(maps.Keys(rates)) {
		list = append(list, rate{c, shop.Amount(rates[c])})
	}
	return list
}

// showRates answers with all fees, and when they held.
func (s *Simulator) showRates(w http.ResponseWriter, _ *http.Request) {
	party.Answer(w, http.StatusOK, encode(struct {
		AsOf  time.Time `json:"as_of"`
		Rates []rate    `json:"rates"`
	}{s.now(), s.rates}))
}
