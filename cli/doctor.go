package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"holdfast/app"
	"holdfast/app/local"
	"holdfast/platform/run"
)

// What a machine should have.
const (
	wantDisk   = 1 << 30   // bytes free for the data directory
	wantMemory = 512 << 20 // bytes available
	wantFiles  = 4096      // open files
)

// finding is a line of the doctor's report.
type finding = app.Finding

func (s *session) doctor() *cobra.Command {
	cfg := local.Defaults()
	c := &cobra.Command{
		Use:   "doctor",
		Short: "Check whether this machine can run Holdfast",
		Long: "Looks at the ports, the disk, the memory, the limits, the clock and the data directory. Each line that is not well says what to do. Exit code 4 if any.\n" +
			"With --config it looks at what a holdfastd with that configuration needs in place of this machine: databases, Kafka, Temporal, other services and certificates. It changes nothing.",
	}
	config := c.Flags().String("config", "", "the YAML file of a holdfastd; its environment counts, too")
	target := c.Flags().String("target", "", "the modules of that holdfastd, where its configuration does not say")
	c.Flags().StringVar(&cfg.Addr, "addr", cfg.Addr, "the public API's address")
	c.Flags().StringVar(&cfg.AdminAddr, "admin-addr", cfg.AdminAddr, "the operator's address")
	c.RunE = func(c *cobra.Command, _ []string) error {
		if *config != "" {
			return s.examine(c.Context(), *config, *target)
		}
		locked, lock := dataFinding(s.data)
		findings := []finding{lock, diskFinding(s.data), memoryFinding(), filesFinding(), clockFinding()}
		if !locked {
			findings = append(findings, portFinding("api port", cfg.Addr, "--addr"), portFinding("admin port", cfg.AdminAddr, "--admin-addr"))
		}
		return s.report(findings, "this machine is not fit yet; see above")
	}
	return c
}

// examine looks at what a holdfastd needs.
func (s *session) examine(ctx context.Context, file, target string) error {
	deps, flags := run.Real(slog.New(slog.DiscardHandler)), map[string]any{}
	if target != "" {
		flags["target"] = target
	}
	cfg, err := app.LoadAlone(deps.Files, file, s.Environ, flags)
	if err != nil {
		return usage("%w", err)
	}
	return s.report(app.Examine(ctx, cfg, deps), "this holdfastd would not run well; see above")
}

// report prints findings, and fails with what is amiss where one is not well.
func (s *session) report(findings []finding, amiss string) error {
	err := s.print(findings, func(w io.Writer) {
		for _, f := range findings {
			mark := "ok   "
			if !f.OK {
				mark = "FAIL "
			}
			fmt.Fprintf(w, "%s %-12s %s\n", mark, f.Check, f.Detail)
			if f.Fix != "" {
				fmt.Fprintf(w, "      %-12s %s\n", "", f.Fix)
			}
		}
	})
	for _, f := range findings {
		if err == nil && !f.OK {
			err = &exit{code: ExitUnfit, err: errors.New(amiss), quiet: s.json}
		}
	}
	return err
}

// dataFinding looks at the data directory. A Holdfast that runs on it is well, and then has the ports.
func dataFinding(dir string) (inUse bool, f finding) {
	f = finding{Check: "data", OK: true, Detail: dir + " is writable and free"}
	if _, err := os.Stat(dir); errors.Is(err, os.ErrNotExist) {
		parent := filepath.Dir(filepath.Clean(dir))
		if err := syscall.Access(parent, 2); err != nil { // 2: may write
			return false, finding{Check: "data", Detail: fmt.Sprintf("%s cannot be made in %s: %v", dir, parent, err), Fix: "choose another directory with --data"}
		}
		f.Detail = dir + " does not exist yet and can be made"
		return false, f
	}
	lock, err := run.LockDir(dir)
	switch {
	case errors.Is(err, run.ErrLocked):
		whose, _, _ := strings.Cut(err.Error(), ";") // what follows is for who wants to start another
		f.Detail = "a Holdfast runs on it: " + whose
		return true, f
	case err != nil:
		return false, finding{Check: "data", Detail: err.Error(), Fix: "choose another directory with --data, or mend its owner and mode"}
	}
	if err := lock.Release(); err != nil {
		return false, finding{Check: "data", Detail: err.Error(), Fix: "choose another directory with --data"}
	}
	return false, f
}

func diskFinding(dir string) finding {
	for {
		if _, err := os.Stat(dir); err == nil || dir == filepath.Dir(dir) {
			break
		}
		dir = filepath.Dir(dir)
	}
	var st syscall.Statfs_t
	if err := syscall.Statfs(dir, &st); err != nil {
		return finding{Check: "disk", Detail: err.Error(), Fix: "choose another directory with --data"}
	}
	free := int64(st.Bavail) * st.Bsize
	f := finding{Check: "disk", OK: free >= wantDisk, Detail: fmt.Sprintf("%d MB free", free>>20)}
	if !f.OK {
		f.Fix = fmt.Sprintf("make room, at least %d MB; a full disk makes Holdfast refuse orders until there is room", wantDisk>>20)
	}
	return f
}

func memoryFinding() finding {
	b, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return finding{Check: "memory", OK: true, Detail: "not known on this system"}
	}
	for line := range strings.Lines(string(b)) {
		rest, ok := strings.CutPrefix(line, "MemAvailable:")
		if !ok {
			continue
		}
		kib, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
		if err != nil {
			break
		}
		f := finding{Check: "memory", OK: kib<<10 >= wantMemory, Detail: fmt.Sprintf("%d MB available", kib>>10)}
		if !f.OK {
			f.Fix = fmt.Sprintf("end other programs; Holdfast wants %d MB", wantMemory>>20)
		}
		return f
	}
	return finding{Check: "memory", OK: true, Detail: "not known on this system"}
}

func filesFinding() finding {
	var r syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &r); err != nil {
		return finding{Check: "open files", OK: true, Detail: "limit not known"}
	}
	f := finding{Check: "open files", OK: r.Cur >= wantFiles, Detail: fmt.Sprintf("at most %d", r.Cur)}
	if !f.OK {
		f.Fix = fmt.Sprintf("raise it before the start: ulimit -n %d", wantFiles)
	}
	return f
}

func clockFinding() finding {
	now := time.Now().UTC()
	f := finding{Check: "clock", OK: now.Year() >= 2025, Detail: now.Format(time.RFC3339)}
	if !f.OK {
		f.Fix = "set the clock; webhooks are refused when it is more than five minutes off"
	}
	return f
}

func portFinding(name, addr, flag string) finding {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return finding{Check: name, Detail: err.Error(), Fix: "end the program that has it, or choose another address with " + flag}
	}
	if err := l.Close(); err != nil {
		return finding{Check: name, Detail: err.Error(), Fix: "choose another address with " + flag}
	}
	return finding{Check: name, OK: true, Detail: addr + " is free"}
}
