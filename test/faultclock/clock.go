package main

import (
	"context"
	"encoding/base32"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"holdfast/check/engine"
	"holdfast/shop"
	"holdfast/test/fakes"
)

// followEvery is how often the file is looked at.
const followEvery = 10 * time.Millisecond

// clock is one that is set wrong. As on a computer whose time is set, only what it shows jumps: timers go on, and so
// does the monotonic reading, by which the time between two readings is told.
type clock struct {
	shop.Clock
	wrong atomic.Int64 // nanoseconds
	shown atomic.Int64 // wrong times that were shown
}

// Now implements shop.Clock.
func (c *clock) Now() time.Time {
	wrong := time.Duration(c.wrong.Load())
	if wrong != 0 {
		c.shown.Add(1)
	}
	return fakes.Jumped(c.Clock.Now(), wrong)
}

// follow sets the clock as the file says until ctx ends. How many wrong times were shown is written beside it.
func (c *clock) follow(ctx context.Context, file string) {
	written := int64(0)
	for ctx.Err() == nil {
		<-time.After(followEvery)
		err := c.read(file)
		if n := c.shown.Load(); n != written && err == nil {
			err, written = engine.WriteShown(file, n), n
		}
		if err != nil {
			fmt.Fprintf(os.Stderr, "faultclock: %v\n", err)
		}
	}
}

func (c *clock) read(file string) error {
	wrong, err := engine.ReadClock(file)
	if err == nil {
		c.wrong.Store(int64(wrong))
	}
	return err
}

// ids has the times in ids jump as well: each begins with 48 bits of milliseconds.
type ids struct {
	shop.IDs
	clock *clock
}

// New implements shop.IDs.
func (i ids) New(prefix string) string {
	id := i.IDs.New(prefix)
	wrong := time.Duration(i.clock.wrong.Load())
	if wrong == 0 {
		return id
	}
	code := base32.HexEncoding.WithPadding(base32.NoPadding)
	name := id[strings.LastIndexByte(id, '_')+1:]
	b, err := code.DecodeString(strings.ToUpper(name))
	if err != nil {
		panic(err) // the real ids are no longer what this was written for
	}
	const bytes = 6
	ms := int64(0)
	for _, x := range b[:bytes] {
		ms = ms<<8 | int64(x)
	}
	ms += wrong.Milliseconds()
	for at := bytes - 1; at >= 0; at-- {
		b[at], ms = byte(ms), ms>>8
	}
	return prefix + "_" + strings.ToLower(code.EncodeToString(b))
}
