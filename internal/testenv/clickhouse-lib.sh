#!/usr/bin/env bash
# Prints the path of ClickHouse as a library (libchdb.so), fetching it once from npm.
set -euo pipefail
version=26.5.3
home=${XDG_CACHE_HOME:-$HOME/.cache}/forebay-test
lib=$home/chdb-$version/node_modules/@chdb/lib-linux-x64-gnu/libchdb.so
if [[ ! -f $lib ]]; then
  [[ $(uname -sm) == "Linux x86_64" ]] || { echo "there is no such library for $(uname -sm)" >&2; exit 1; }
  command -v npm >/dev/null 2>&1 || { echo "npm is missing: apt-get install npm" >&2; exit 1; }
  mkdir -p "$home/chdb-$version"
  exec 9>"$home/chdb-$version/lock" && flock 9 # test binaries run side by side
  [[ -f $lib ]] || npm install --prefix "$home/chdb-$version" --no-audit --no-fund --silent "@chdb/lib-linux-x64-gnu@$version" >&2
  [[ -f $lib ]] || { echo "npm did not install $lib" >&2; exit 1; }
fi
echo "$lib"
