// Package config makes one environment of forebay.yaml ready for use: it finds
// the repository, chooses the environment, expands references, makes paths
// absolute, fills in defaults and validates.
//
// A value may hold references: ${env:NAME} stands for an environment variable and
// ${file:PATH} for a file's content without its last line end. What they stand for
// is put in as it is, and never looked at for further references. A message about
// a value shows it as it is in forebay.yaml, never what references stand for.
//
// There is no default that reaches a server: where a setting names none, loading
// fails and says which setting. Only the environment called local has defaults for
// whole sections, in the folder .forebay of the repository.
package config
