package chaos

import (
	"holdfast/check"
	"holdfast/check/audit"
)

// Attached is a Holdfast that others run and may be using: nothing but its simulators and its bus is touched, and
// what is not at rest is not judged.
type Attached struct{ At check.Target }

// Target returns it for a load.
func (a Attached) Target() check.Target { return a.At }

// Stores are not ours to open: it checks them itself.
func (a Attached) Stores() audit.Config { return audit.Config{} }

// Parts are none of ours.
func (a Attached) Parts() []Part { return nil }

// Links are none of ours.
func (a Attached) Links() []Link { return nil }
