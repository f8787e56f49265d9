package main

import (
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// version is what `forebay version` prints with --json.
type version struct {
	Version string `json:"version"` // of the module, "(devel)" for a build from a working tree
	Commit  string `json:"commit,omitempty"`
	Go      string `json:"go"`
	OS      string `json:"os"`
	Arch    string `json:"arch"`
}

// thisVersion reads what the Go tool wrote into the binary.
func thisVersion() version {
	v := version{Version: "(devel)", Go: runtime.Version(), OS: runtime.GOOS, Arch: runtime.GOARCH}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return v
	}
	if info.Main.Version != "" {
		v.Version = info.Main.Version
	}
	dirty := ""
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			v.Commit = s.Value
		case "vcs.modified":
			if s.Value == "true" {
				dirty = "-dirty"
			}
		}
	}
	if v.Commit != "" {
		v.Commit += dirty
	}
	return v
}

func (c *cli) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version of this binary",
		Args:  args(0, 0),
		RunE: func(*cobra.Command, []string) error {
			v := thisVersion()
			if c.json {
				return c.document(v)
			}
			c.printf("forebay %s (%s, %s/%s)\n", v.Version, v.Go, v.OS, v.Arch)
			if v.Commit != "" {
				c.printf("commit %s\n", v.Commit)
			}
			return nil
		},
	}
}
