#!/usr/bin/env bash
# training/pack_for_a_card.sh FOLDER PICTURES [HELD_OUT]: what a bare machine with a card and no
# network needs for training/on_a_card.sh, as FOLDER/pack.tar.gz (the committed code, with networks,
# without tests) and FOLDER/pictures.tar; says how many MiB they have together. There:
#   mkdir code && tar -C code -xzf pack.tar.gz && tar -xf pictures.tar
#   bash code/training/on_a_card.sh pictures OUT 330 held_out
# and of what comes back: cat OUT/weights.tar.part* | tar -x
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
out=${1:?name a folder} pictures=${2:?name the pictures} held_out=${3:-}
mkdir -p "$out"
git -C "$root" archive HEAD -- . ':!tests' ':!web' ':!docs' ':!workflows' ':!assets' | gzip > "$out/pack.tar.gz"
given=(--dereference --transform "s,^\.,pictures," -C "$pictures" .)
tar -cf "$out/pictures.tar" "${given[@]}"
if [ -n "$held_out" ]; then
  tar -rf "$out/pictures.tar" --dereference --transform "s,^\.,held_out," -C "$held_out" .
fi
du -cm "$out/pack.tar.gz" "$out/pictures.tar"
