package cli

import (
	"fmt"
	"io"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// Version is the program's version.
const Version = "0.1.0"

func (s *session) version() *cobra.Command {
	return &cobra.Command{Use: "version", Short: "Print the version", RunE: func(*cobra.Command, []string) error {
		v := struct {
			Version  string `json:"version"`
			Go       string `json:"go"`
			Revision string `json:"revision"`
		}{Version: Version}
		if info, ok := debug.ReadBuildInfo(); ok {
			v.Go = info.GoVersion
			for _, setting := range info.Settings {
				if setting.Key == "vcs.revision" {
					v.Revision = setting.Value
				}
			}
		}
		return s.print(v, func(w io.Writer) { fmt.Fprintf(w, "holdfast %s (%s) %s\n", v.Version, v.Go, v.Revision) })
	}}
}
