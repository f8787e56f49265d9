package app

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"testing"
)

// TestDocumentedScripts runs the examples of docs/testing.md on its definitions.
func TestDocumentedScripts(t *testing.T) {
	text, err := os.ReadFile("../../docs/testing.md")
	if err != nil {
		t.Fatal(err)
	}
	root := t.TempDir()
	write(t, filepath.Join(root, "forebay.yaml"), settings)
	scripts := 0
	for i, block := range regexp.MustCompile("(?s)```(yaml|pit)\n(.*?)```").FindAllSubmatch(text, -1) {
		if string(block[1]) == "yaml" {
			write(t, filepath.Join(root, fmt.Sprintf("%d.yaml", i)), string(block[2]))
			continue
		}
		scripts++
		write(t, filepath.Join(root, testsFolder, fmt.Sprintf("%d%s", i, scriptExt)), string(block[2]))
	}
	done, err := open(t, root).Test(t.Context(), TestOptions{Files: []string{filepath.Join(root, testsFolder)}})
	if err != nil {
		t.Fatal(err)
	}
	if scripts < 4 || len(done) != scripts {
		t.Errorf("%d scripts were run, of %d", len(done), scripts)
	}
	for _, s := range done {
		if !s.OK() {
			t.Errorf("%+v", s)
		}
	}
}
