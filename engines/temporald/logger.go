package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync/atomic"

	"go.temporal.io/server/common/log/tag"
)

// logger writes what the server logs as lines of JSON, without the stack that it would add to each error,
// and without what is not a fault of anybody.
type logger struct {
	out    slog.Handler
	ending *atomic.Bool
}

func newLogger(w io.Writer, level slog.Level) *logger {
	return &logger{out: slog.NewJSONHandler(w, &slog.HandlerOptions{Level: level}), ending: new(atomic.Bool)}
}

// quietDown has the logger leave out, once ctx has ended, how the parts miss one another while they stop.
func (l *logger) quietDown(ctx context.Context) {
	context.AfterFunc(ctx, func() { l.ending.Store(true) })
}

// Debug implements log.Logger.
func (l *logger) Debug(msg string, tags ...tag.Tag) { l.log(slog.LevelDebug, msg, tags) }

// Info implements log.Logger.
func (l *logger) Info(msg string, tags ...tag.Tag) { l.log(slog.LevelInfo, msg, tags) }

// Warn implements log.Logger.
func (l *logger) Warn(msg string, tags ...tag.Tag) { l.log(slog.LevelWarn, msg, tags) }

// Error implements log.Logger.
func (l *logger) Error(msg string, tags ...tag.Tag) { l.log(slog.LevelError, msg, tags) }

// DPanic implements log.Logger: what would be a panic in development is an error here.
func (l *logger) DPanic(msg string, tags ...tag.Tag) { l.log(slog.LevelError, msg, tags) }

// Panic implements log.Logger.
func (l *logger) Panic(msg string, tags ...tag.Tag) {
	l.write(slog.LevelError, msg, tags)
	panic(msg)
}

// Fatal implements log.Logger.
func (l *logger) Fatal(msg string, tags ...tag.Tag) {
	l.write(slog.LevelError, msg, tags)
	os.Exit(1)
}

func (l *logger) log(level slog.Level, msg string, tags []tag.Tag) {
	if l.out.Enabled(context.Background(), level) && !l.ending.Load() && !strings.HasPrefix(msg, noNexus) {
		l.write(level, msg, tags)
	}
}

func (l *logger) write(level slog.Level, msg string, tags []tag.Tag) {
	attrs := make([]slog.Attr, 0, len(tags))
	for _, t := range tags {
		if t == nil {
			continue
		}
		value := t.Value()
		if err, ok := value.(error); ok {
			value = err.Error()
		}
		if text, ok := value.(string); ok && benign(text) {
			return
		}
		attrs = append(attrs, slog.Any(t.Key(), printable(value)))
	}
	slog.New(l.out).LogAttrs(context.Background(), level, msg, attrs...)
}

// noNexus is a warning at every start that a part is off which is meant to be.
const noNexus = "HTTP API port has not been set"

// benign tells what happens whenever somebody who was waiting goes away.
func benign(text string) bool {
	return strings.Contains(text, "context canceled") || strings.Contains(text, "code = Canceled") || strings.Contains(text, "operation was canceled")
}

func printable(value any) any {
	switch v := value.(type) {
	case fmt.Stringer:
		return v.String()
	default:
		return v
	}
}
