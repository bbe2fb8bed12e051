#!/usr/bin/env bash
# Brings what long runs found interesting (fuzz/work) into the corpus: for each target, or FUZZ_TARGET
# alone, at most FUZZ_KEEP (60) inputs of at most 4 KiB, those first that reach most code that the
# corpus does not reach yet. See docs/fuzzing.md.
set -euo pipefail
cd "$(dirname "$0")/.."

most=${FUZZ_KEEP:-60}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

for target in ${FUZZ_TARGET:-$(cargo +nightly fuzz list)}; do
    corpus=fuzz/corpus/$target
    merged=$scratch/$target
    mkdir -p "$merged" "$corpus" "fuzz/work/$target"
    # Files are judged by the code that they reach, not by how often: that would keep thousands.
    cp -p "$corpus"/* "$merged"
    cargo +nightly fuzz run "$target" "$merged" "fuzz/work/$target" -- \
        -set_cover_merge=1 -use_counters=0 -max_len=4096 >"$scratch/log" 2>&1 ||
        { tail -n 30 "$scratch/log" >&2; exit 1; }
    kept=0
    # The merge writes the most useful first.
    for file in $(ls -tr "$merged"); do
        if [ "$kept" -lt "$most" ] && [ ! -e "$corpus/$file" ]; then
            cp "$merged/$file" "$corpus/$file"
            kept=$((kept + 1))
        fi
    done
    echo "fuzz: $target: $kept new inputs"
done
du -sh fuzz/corpus
