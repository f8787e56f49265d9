#!/usr/bin/env bash
# Sets up what `make test-spark` needs: PySpark 3.5 from PyPI and the Iceberg runtime for it from Maven Central, in
# CACHE/spark; Java 17 must be there. Prints the folder.
#   spark.sh CACHE
set -euo pipefail
dir=$(realpath -m "${1:?usage: spark.sh CACHE}")/spark
jar=iceberg-spark-runtime-3.5_2.12-1.10.0.jar
mkdir -p "$dir"
command -v java >/dev/null || { echo "java is missing: apt-get install openjdk-17-jre-headless" >&2; exit 1; }
if [[ ! -e $dir/installed ]]; then
  python3 -m venv "$dir/venv"
  "$dir/venv/bin/python" -m pip install -q --disable-pip-version-check 'pyspark==3.5.6' 'pyarrow' 'setuptools<81' >&2
  if command -v mvn >/dev/null; then
    mvn -q -B dependency:copy -Dartifact=org.apache.iceberg:iceberg-spark-runtime-3.5_2.12:1.10.0 -DoutputDirectory="$dir" >&2
  else
    curl -fsSL -o "$dir/$jar" "https://repo1.maven.org/maven2/org/apache/iceberg/iceberg-spark-runtime-3.5_2.12/1.10.0/$jar"
  fi
  touch "$dir/installed"
fi
echo "$dir"
