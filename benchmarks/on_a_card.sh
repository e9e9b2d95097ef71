#!/usr/bin/env bash
# benchmarks/on_a_card.sh [FOLDER OF WHEELS]: tests/cuda, ComfyUI's server on the card where
# COMFYUI_PATH names a checkout, then benchmarks/gpu.py, in less than six minutes. Wheels are for a
# machine without network: what it lacks is taken from there, into a folder of its own. Figures are
# written as they come; tables stand last.
set -uo pipefail
cd "$(dirname "$0")/.."
out=${OUT:-output/card}
python=${PYTHON:-python3}
mkdir -p "$out"
export OMP_NUM_THREADS=2  # several processes run at once
if [ $# -gt 0 ]; then
  site=$(mktemp -d)
  trap 'rm -rf "$site"' EXIT
  timeout 45 "$python" -m pip install --quiet --no-index --no-deps --target "$site" "$1"/*.whl || exit 1
  export PYTHONPATH="$site${PYTHONPATH:+:$PYTHONPATH}"
fi
pytest=("$python" -m pytest -p no:cacheprovider --tb short -rfE)
server=0
if [ -n "${COMFYUI_PATH:-}" ]; then
  COMFYUI_DEVICE=cuda COMFYUI_PYTHON=$python timeout --signal INT 200 "${pytest[@]}" \
    tests/comfyui/test_server_workflows.py tests/comfyui/test_derivatives_in_comfyui.py \
    -k "card or finishes" > "$out/comfyui.txt" 2>&1 &
  server=$!
fi
timeout --signal INT 100 "${pytest[@]}" tests/cuda -m cuda -n 5 --timeout 90 > "$out/tests.txt" 2>&1
tests=$?
if [ "$server" -gt 0 ]; then wait "$server"; server=$?; fi
timeout 110 "$python" benchmarks/gpu.py --seconds "${SECONDS_OF_BENCHMARK:-90}" > "$out/gpu.txt" 2>&1
bench=$?
cp benchmarks/results/gpu.json "$out/" 2>/dev/null
echo "== tests/cuda (ended with $tests)"; tail -n 25 "$out/tests.txt"
echo "== tests/comfyui (ended with $server)"; [ -e "$out/comfyui.txt" ] && tail -n 25 "$out/comfyui.txt"
echo "== benchmarks/gpu.py (ended with $bench)"; tail -n 25 "$out/gpu.txt"
[ "$tests" -eq 0 ] && [ "$server" -eq 0 ] && [ "$bench" -eq 0 ]
