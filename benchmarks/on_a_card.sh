#!/usr/bin/env bash
# benchmarks/on_a_card.sh [FOLDER OF WHEELS]: tests/cuda, then benchmarks/gpu.py, on a machine with a
# card, in less than six minutes. Wheels are for a machine without network: what it lacks is taken
# from there, into a folder of its own. Figures are written as they come; tables stand last.
set -uo pipefail
cd "$(dirname "$0")/.."
out=${OUT:-output/card}
python=${PYTHON:-python3}
mkdir -p "$out"
if [ $# -gt 0 ]; then
  site=$(mktemp -d)
  trap 'rm -rf "$site"' EXIT
  timeout 45 "$python" -m pip install --quiet --no-index --no-deps --target "$site" "$1"/*.whl || exit 1
  export PYTHONPATH="$site${PYTHONPATH:+:$PYTHONPATH}"
fi
timeout --signal INT 170 "$python" -m pytest tests/cuda -m cuda -p no:cacheprovider --timeout 60 \
  --tb short --maxfail 20 > "$out/tests.txt" 2>&1
tests=$?
timeout 140 "$python" benchmarks/gpu.py --seconds "${SECONDS_OF_BENCHMARK:-110}" > "$out/gpu.txt" 2>&1
bench=$?
cp benchmarks/results/gpu.json "$out/" 2>/dev/null
echo "== tests/cuda (ended with $tests)"; tail -n 25 "$out/tests.txt"
echo "== benchmarks/gpu.py (ended with $bench)"; tail -n 25 "$out/gpu.txt"
[ "$tests" -eq 0 ] && [ "$bench" -eq 0 ]
