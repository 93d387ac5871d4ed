package cluster

import (
	"context"
	"errors"
	"io"
	"os"

	"holdfast/check"
	"holdfast/check/audit"
	"holdfast/check/chaos"
)

// Alone is a Holdfast in one process, with its engines and the outside parties in it. It is a chaos.System of one part,
// "holdfast", and without links.
type Alone struct {
	process *check.Process
	dir     string
	life    *os.File // as in System
}

// StartAlone runs a `holdfast up`. Of the options it uses Dir, Keep and Bin; args are added to its command line.
func StartAlone(ctx context.Context, o Options, log io.Writer, args ...string) (*Alone, error) {
	s := &System{options: o}
	if err := s.programs("holdfast"); err != nil {
		return nil, err
	}
	if err := s.makeDir(); err != nil {
		return nil, err
	}
	a := &Alone{dir: s.dir, life: s.life}
	var err error
	if a.process, err = check.Start(ctx, s.program("holdfast"), a.dir, log, args...); err != nil {
		return nil, errors.Join(err, a.Close())
	}
	return a, nil
}

// Close ends it in order.
func (a *Alone) Close() error {
	var errs []error
	if a.process != nil {
		errs = append(errs, a.process.Throttle(0), a.process.Process.Stop())
	}
	if a.life != nil {
		errs = append(errs, a.life.Close())
	}
	return errors.Join(errs...)
}

// Dir is the data directory.
func (a *Alone) Dir() string { return a.dir }

// Target returns it for a load.
func (a *Alone) Target() check.Target {
	return check.Target{URL: a.process.Addresses.API, Key: a.process.Key, Addresses: a.process.Addresses, Process: a.process}
}

// Stores returns where the databases and the outside parties' ledgers are.
func (a *Alone) Stores() audit.Config {
	c := audit.Config{Data: a.dir, Grace: audit.DefaultGrace}
	c.PSP, c.Carrier = audit.SimulatorLedgers(a.dir)
	return c
}

// Parts returns the one process.
func (a *Alone) Parts() []chaos.Part {
	return []chaos.Part{&Part{Process: a.process.Process, kind: "holdfast"}}
}

// Links returns none.
func (a *Alone) Links() []chaos.Link { return nil }
