#!/usr/bin/env bash
# benchmarks/on_a_card_rest.sh: what results/gpu.json has no figures of, and what has changed since
# it was measured, in less than six minutes: first sums, updates and networks, played back.
set -uo pipefail
cd "$(dirname "$0")/.."
out=${OUT:-output/card}
python=${PYTHON:-python3}
mkdir -p "$out"
export OMP_NUM_THREADS=2
timeout --signal INT 65 "$python" -m pytest -p no:cacheprovider --tb short -rfE -m cuda \
  tests/cuda/test_replay.py tests/cuda/test_recorded_runs.py \
  tests/cuda/test_kept_runs.py tests/test_noise.py \
  -k "kept_runs or same_bits or sums or noise_of_a_card or regions" \
  > "$out/rest_tests.txt" 2>&1
tests=$?
parts=()
for part in small again step updates together levels photographs large starts regions official peaks largest; do
  parts+=(--part "$part")
done
timeout 305 "$python" benchmarks/gpu.py --seconds "${SECONDS_OF_BENCHMARK:-280}" "${parts[@]}" \
  > "$out/rest.txt" 2>&1
bench=$?
cp benchmarks/results/gpu.json "$out/" 2>/dev/null
echo "== tests (ended with $tests)"; tail -n 15 "$out/rest_tests.txt"
echo "== benchmarks/gpu.py (ended with $bench)"; tail -n 90 "$out/rest.txt"
[ "$tests" -eq 0 ] && [ "$bench" -eq 0 ]
