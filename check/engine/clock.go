package engine

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"time"
)

// ClockVariable names, in the environment of bin/holdfastd-faultclock, the file by which its clock is set wrong.
const ClockVariable = "FAULTCLOCK_FILE"

// SetClock has the clock of the process that follows the file be wrong by so much, ahead or behind; 0 puts it right.
func SetClock(file string, wrong time.Duration) error { return replace(file, wrong.String()) }

// ReadClock is what SetClock has written.
func ReadClock(file string) (time.Duration, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return 0, err
	}
	return time.ParseDuration(strings.TrimSpace(string(b)))
}

// WriteShown notes how many wrong times the process has shown, since its start.
func WriteShown(file string, n int64) error { return replace(file+".shown", strconv.FormatInt(n, 10)) }

// Shown is what WriteShown has written last; 0 where nothing was.
func Shown(file string) (int64, error) {
	b, err := os.ReadFile(file + ".shown")
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	return strconv.ParseInt(string(b), 10, 64)
}

// replace writes a file as a whole, so that who reads it meanwhile finds the old or the new.
func replace(file, text string) error {
	beside := file + ".new"
	if err := os.WriteFile(beside, []byte(text), 0o600); err != nil {
		return err
	}
	if err := os.Rename(beside, file); err != nil {
		return fmt.Errorf("set %s: %w", file, err)
	}
	return nil
}
