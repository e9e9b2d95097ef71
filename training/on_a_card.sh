#!/usr/bin/env bash
# training/on_a_card.sh PICTURES OUT SECONDS [HELD_OUT [BM3D.json]]: trains the large prior by the
# clock on the pictures of a folder and measures it beside the small one, in SECONDS of wall clock.
# A run that has not made a step in time, or ended badly, is started again in plainer ways. OUT gets
# weights.tar.part?? (15 MiB each at most) and card.tar with logs and figures.
set -uo pipefail
start=$(date +%s)
root=$(cd "$(dirname "$0")/.." && pwd)
pictures=$1 out=$2 seconds=$3 held_out=${4:-} bm3d=${5:-}
python=${PYTHON:-python3}
work=${WORK:-$(mktemp -d)}
export PYTHONUNBUFFERED=1 OMP_NUM_THREADS=2 TORCHINDUCTOR_COMPILE_THREADS=${COMPILE_THREADS:-8}
mkdir -p "$out" "$work"
left() { echo $((start + seconds - $(date +%s))); }
reserve=${RESERVE:-65}  # for the last weights, the figures and packing
options=(--pictures "$pictures" --like "$root/models/embedded/prior_v1.safetensors"
  --widths "${WIDTHS:-96,128,256,384}" --blocks "${BLOCKS:-3}" --side "${SIDE:-96}" --batch "${BATCH:-112}"
  --optimizer muon --rate "${RATE:-0.0015}" --restored "${RESTORED:-0.4}" --warm-up 100 --average 0.999 --precision bf16
  --drawn 0.12 --canvases "${CANVASES:-160}" --seed 15)
[ -d "$held_out" ] && options+=(--held-out "$held_out")

train() {  # how it launches its steps; the seconds within which the first ones must be done
  local log=$work/train-$1.log minutes
  minutes=$(awk "BEGIN { print ($(left) - $reserve) / 60 }")
  echo "== training, $1, $minutes minutes" | tee -a "$work/card.log"
  rm -rf "$work/run/prior.safetensors"
  "$python" "$root/training" prior "${options[@]}" --out "$work/run" --minutes "$minutes" --launch "$1" > "$log" 2>&1 &
  local job=$! begun=$SECONDS
  while kill -0 $job 2>/dev/null; do
    sleep 1
    if ! grep -q "are left" "$log" && [ $((SECONDS - begun)) -gt "$2" ]; then
      echo "no step in $2 s" | tee -a "$work/card.log"; kill -9 $job; break
    elif [ "$(left)" -lt $((reserve / 2)) ]; then
      kill -TERM $job; sleep 4; kill -9 $job 2>/dev/null; break  # the last minute's weights are there
    fi
  done
  wait $job 2>/dev/null
  echo "ended with $? after $((SECONDS - begun)) s" | tee -a "$work/card.log"
  tail -n 3 "$log"
  [ -s "$work/run/prior.safetensors" ]
}

train auto "${FIRST_STEP:-115}" || { [ "$(left)" -gt $((reserve + 45)) ] && train captured 70; }
{ nvidia-smi || true; "$python" --version; } >> "$work/card.log" 2>&1
made=$work/run/prior.safetensors
if [ -s "$made" ]; then
  cp "$made" "$work/large.safetensors"
  tar -C "$work" -cf - large.safetensors | split -b 15M -d - "$out/weights.tar.part"
  measure=("$work/large.safetensors" "$root/models/embedded/prior_v1.safetensors" --out "$work/priors.json")
  [ -d "$held_out" ] && measure+=(--held-out "$held_out")
  [ -s "$bm3d" ] && measure+=(--bm3d "$bm3d")
  time_left=$(($(left) - 3))
  timeout -k 2 $((time_left > 15 ? time_left : 15)) "$python" "$root/benchmarks/priors.py" "${measure[@]}" 2>&1 | tee "$work/priors.log"
fi
tar -C "$work" -cf "$out/card.tar" $(cd "$work" && ls -d ./*.log ./*.json ./run/*.csv 2>/dev/null)
echo "== on_a_card: $(left) s left, in $out:"; ls -l "$out"
