#!/usr/bin/env bash
# Runs every test: packages where goroutines meet with the race detector, the others without.
#   test.sh PATTERN…   the packages to test with -race
set -euo pipefail
export CGO_ENABLED=1
race=-race
command -v gcc >/dev/null 2>&1 || { race= CGO_ENABLED=0; echo "no C compiler: the race detector is off" >&2; }
mapfile -t raced < <(go list "$@" | sort -u)
mapfile -t plain < <(comm -23 <(go list ./... | sort -u) <(printf '%s\n' "${raced[@]}"))
status=0
go test -timeout 20m "${plain[@]}" || status=$?
go test $race -timeout 20m "${raced[@]}" || status=$?
exit $status
