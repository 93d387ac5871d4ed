// Package events holds the contract of what is on the bus: a JSON Schema for the payload of each type of
// event, and in README.md the envelope, the topics and what may change.
package events

import (
	"embed"
	"io/fs"
)

//go:embed *.json data/*.json
var schemas embed.FS

// Schemas returns the schemas: a file per event type, "OrderPlaced.json", and in data/ what they share.
func Schemas() fs.FS { return schemas }
