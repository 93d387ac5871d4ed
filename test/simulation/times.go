package simulation

import (
	"encoding/json"
	"time"
)

// ledgerLine is what matters here of a line of the provider's ledger.
type ledgerLine struct {
	Note          string    `json:"note"`
	At            time.Time `json:"at"`
	Entry         string    `json:"entry"`
	Authorisation string    `json:"authorisation"`
	Reference     string    `json:"reference"`
}

func parseLine(b []byte) (l ledgerLine, err error) {
	err = json.Unmarshal(b, &l)
	return l, err
}

// times returns when each order began to be undone, and room for when its money was taken.
func (w *World) times() (undone, taken map[string]time.Time, err error) {
	undone, taken = map[string]time.Time{}, map[string]time.Time{}
	db, err := open(w.seen.dir, "order")
	if err != nil {
		return nil, nil, err
	}
	defer db.Close()
	rows, err := db.Query(`SELECT key, min(time) FROM outbox WHERE type = 'OrderUndoRequested' GROUP BY key`)
	if err != nil {
		return nil, nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var id string
		var at int64
		if err := rows.Scan(&id, &at); err != nil {
			return nil, nil, err
		}
		undone[id] = time.UnixMicro(at)
	}
	return undone, taken, rows.Err()
}
