package embedded

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// formatLine is the first line of FORMAT. The second is "project " and its name.
const formatLine = "forebay online 1"

// checkFormat checks that a folder has this layout and belongs to a project, or
// marks a new one.
func checkFormat(dir, project string) error {
	path := filepath.Join(dir, "FORMAT")
	want := formatLine + "\nproject " + project + "\n"
	b, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		if _, err := os.Stat(filepath.Join(dir, "pebble")); err == nil {
			return fmt.Errorf("it holds a database, but no file FORMAT that says of what version: it is not an online store of Forebay, or was damaged")
		}
		return writeFile(path, []byte(want), 0o644)
	}
	if err != nil {
		return err
	}
	line, rest, _ := strings.Cut(string(b), "\n")
	if line != formatLine {
		return fmt.Errorf("its format is %q, this program reads %q: use the release of Forebay that wrote it", line, formatLine)
	}
	if string(b) != want {
		was, _ := strings.CutPrefix(strings.TrimSuffix(rest, "\n"), "project ")
		return fmt.Errorf("it keeps the records of project %q, not of %q: give each project a path of its own", was, project)
	}
	return nil
}

// writeFile writes a file whole or not at all.
func writeFile(path string, b []byte, mode os.FileMode) error {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*.tmp")
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}

// makeDir makes a folder and what is missing above it, to last.
func makeDir(fs vfs.FS, dir string) error {
	var parents []string
	for d := dir; ; {
		if _, err := fs.Stat(d); err == nil {
			break
		}
		parent := fs.PathDir(d)
		if parent == d {
			break
		}
		parents, d = append(parents, parent), parent
	}
	if err := fs.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for _, p := range parents {
		f, err := fs.OpenDir(p)
		if err != nil {
			return err
		}
		if err := errors.Join(f.Sync(), f.Close()); err != nil {
			return err
		}
	}
	return nil
}
