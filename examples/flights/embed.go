// Package flights holds the example repository of that name, so that
// `forebay demo` runs wherever the binary is.
package flights

import "embed"

// Files are the repository's files as they lie beside this one.
//
//go:embed forebay.yaml features.yaml data/*.parquet tests/*.pit
var Files embed.FS
