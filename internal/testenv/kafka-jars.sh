#!/usr/bin/env bash
# Fetches the jars of Kafka's server (54 MB, once) from Maven Central and prints their folder.
# It lies in FOREBAY_TEST_HOME, by default forebay-test in the user's cache folder.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
case $(uname) in Darwin) cache=$HOME/Library/Caches ;; *) cache=${XDG_CACHE_HOME:-$HOME/.cache} ;; esac
home=${FOREBAY_TEST_HOME:-$cache/forebay-test}/kafka
version=$(sed -n 's|.*<artifactId>kafka_2.13</artifactId><version>\(.*\)</version>.*|\1|p' "$here/kafka-server/pom.xml")
libs=$home/libs-$version

if [[ ! -d $libs ]]; then
  mkdir -p "$home"
  # Packages are tested in parallel: one of them fetches, the others wait.
  if command -v flock >/dev/null 2>&1; then
    exec 9>"$home/lock"
    flock 9
  fi
  if [[ ! -d $libs ]]; then
    tmp=$(mktemp -d "$home/fetch-XXXXXX")
    trap 'rm -rf "$tmp"' EXIT
    mvn -q -B -f "$here/kafka-server/pom.xml" dependency:copy-dependencies -DoutputDirectory="$tmp/libs" >&2
    # A folder that exists is whole: it appears with one rename.
    mv -n "$tmp/libs" "$libs" 2>/dev/null || [[ -d $libs ]]
  fi
fi
echo "$libs"
