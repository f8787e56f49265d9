#!/usr/bin/env bash
# Sets up what the tests need beside Go: redis-server, Java 17 with the Kafka jars, the ClickHouse engine, and a Python with readers of
# Iceberg tables. What is missing is installed from Debian's packages when this runs as root on Debian; else it is
# named, and the tests that need it skip (with CI=true they fail).
#   setup.sh CACHE   CACHE is a folder for what is downloaded
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
cache=${1:?usage: setup.sh CACHE}
mkdir -p "$cache"

have() { command -v "$1" >/dev/null 2>&1; }

# Debian packages that are missing: a command each, with the package that brings it.
wanted=()
have redis-server || wanted+=(redis-server)
have java || wanted+=(openjdk-17-jre-headless)
have mvn || wanted+=(maven)
have npm || wanted+=(npm) # fetches the ClickHouse engine
have python3 && python3 -c 'import venv, ensurepip' 2>/dev/null || wanted+=(python3 python3-venv)
have gcc || wanted+=(gcc libc6-dev) # the race detector and the ClickHouse engine need a C compiler
if ((${#wanted[@]})); then
  if [[ $(id -u) == 0 ]] && have apt-get; then
    echo "installing ${wanted[*]}" >&2
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq
    # No service is to be started: the tests start their own.
    printf '#!/bin/sh\nexit 101\n' >"$cache/policy-rc.d" && chmod +x "$cache/policy-rc.d"
    if [[ ! -e /usr/sbin/policy-rc.d ]]; then
      cp "$cache/policy-rc.d" /usr/sbin/policy-rc.d
      trap 'rm -f /usr/sbin/policy-rc.d' EXIT
    fi
    apt-get install -y -qq --no-install-recommends "${wanted[@]}" >/dev/null
  else
    echo "missing: ${wanted[*]} (on Debian: sudo apt-get install ${wanted[*]}); tests that need them are skipped" >&2
  fi
fi

if have mvn && have java; then
  "$here/kafka-jars.sh" >/dev/null || echo "the Kafka jars could not be fetched from Maven Central; Kafka tests are skipped" >&2
fi

if have npm; then
  "$here/clickhouse-lib.sh" >/dev/null || echo "the ClickHouse engine could not be fetched from npm; ClickHouse tests are skipped" >&2
fi

python=$cache/venv/bin/python
requirements=$here/requirements.txt
if have python3 && ! cmp -s "$requirements" "$cache/venv/.requirements"; then
  [[ -x $python ]] || python3 -m venv "$cache/venv"
  if "$python" -m pip install -q --disable-pip-version-check -r "$requirements"; then
    cp "$requirements" "$cache/venv/.requirements"
  else
    echo "the Python packages of $requirements could not be installed; tests that read tables with other engines are skipped" >&2
  fi
fi
