#!/usr/bin/env bash
# Lookups over HTTP with JSON against a real Redis, beside what Redis itself gives for the same bytes, in one run.
#   benches/lookup.sh [SECONDS] [CONNECTIONS]     default: 10 s each, 16 connections
# Needs redis-server, redis-benchmark and wrk (Debian: redis-server redis-tools wrk). 10,000 entities with 50 random float64.
set -euo pipefail
seconds=${1:-10} connections=${2:-16}
root=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
pids=()
trap 'kill "${pids[@]}" 2>/dev/null || true; wait 2>/dev/null || true; rm -rf "$work"' EXIT
port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }

CGO_ENABLED=0 go build -C "$root" -o "$work/forebay" ./cmd/forebay
redis=$(port) http=$(port)
redis-server --port "$redis" --bind 127.0.0.1 --save "" --dir "$work" >"$work/redis.log" & pids+=($!)

mkdir "$work/repo"
cd "$work/repo"
cat >forebay.yaml <<Y
version: 1
project: bench
environments:
  local:
    registry: file://./.forebay/registry
    offline: {store: parquet, url: "file://./.forebay/offline"}
    online: {store: redis, addrs: ["127.0.0.1:$redis"], mode: single}
Y
{
  printf 'kind: Entity\nname: user\njoin_keys: [{name: user_id, type: int64}]\n---\nkind: Source\nname: rows\ntimestamp: at\ncolumns:\n  user_id: int64\n  at: timestamp\n'
  for i in $(seq 0 49); do echo "  f$i: float64"; done
  printf 'files: {glob: rows.csv}\n---\nkind: FeatureView\nname: stats\nentities: [user]\nsource: rows\nfeatures:\n'
  for i in $(seq 0 49); do echo "  - {name: f$i, type: float64, expr: f$i}"; done
  printf -- '---\nkind: FeatureService\nname: all\nfeatures: [stats]\n'
} >features.yaml
awk 'BEGIN { srand(7); printf "user_id,at"; for (i = 0; i < 50; i++) printf ",f%d", i; print "";
  for (u = 0; u < 10000; u++) { printf "%d,2026-01-01T00:00:00Z", u; for (i = 0; i < 50; i++) printf ",%.16f", rand(); print "" } }' >rows.csv
"$work/forebay" apply --auto-approve >/dev/null
"$work/forebay" ingest rows >/dev/null
"$work/forebay" materialize >/dev/null
"$work/forebay" serve --listen "127.0.0.1:$http" >/dev/null 2>"$work/serve.log" & pids+=($!)
until curl -fs "http://127.0.0.1:$http/readyz" >/dev/null; do sleep 0.1; done

request() { # ENTITIES: a wrk script that asks for as many random ones
  cat <<L
wrk.method, wrk.headers["Content-Type"] = "POST", "application/json"
local n = $1
function request()
  local e = {}
  for i = 1, n do e[i] = '{"user_id":' .. math.random(0, 9999) .. '}' end
  return wrk.format(nil, "/v1/features", nil, '{"service":"all","entities":[' .. table.concat(e, ",") .. "]}")
end
L
}
value=$(head -c 400 /dev/zero | tr '\0' x)
for n in 1 100; do
  request "$n" >"$work/$n.lua"
  echo "== $n x 50 over HTTP, JSON"
  wrk -t1 -c"$connections" -d3s -s "$work/$n.lua" "http://127.0.0.1:$http" >/dev/null # warm
  wrk -t1 -c"$connections" -d"${seconds}s" --latency -s "$work/$n.lua" "http://127.0.0.1:$http" | grep -E '99%|50%|Requests/sec|Non-2xx' || true
done
echo "== Redis alone: GET of 438 bytes, then MGET of 100 of them; $connections connections, not pipelined"
keys=$(for i in $(seq 100); do echo -n " raw:$i"; done)
for i in $(seq 100); do echo "SET raw:$i ${value}${value:0:38}"; done | redis-cli -p "$redis" >/dev/null
redis-benchmark -p "$redis" -c "$connections" -n 400000 GET raw:7 2>/dev/null | grep -E 'throughput|requests per second' | head -1
# shellcheck disable=SC2086 # the keys are words
redis-benchmark -p "$redis" -c "$connections" -n 60000 MGET $keys 2>/dev/null | grep -E 'throughput|requests per second' | head -1
echo "== one process's memory"
grep -E 'VmHWM' "/proc/${pids[1]}/status"
