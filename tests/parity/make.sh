#!/usr/bin/env bash
# Makes tests/parity/fixture again from nothing, compares exported graphs with PyTorch, and the
# worker on these graphs with the fixture.
# The first run installs the pinned environment (6 GB) into .cache; `--full` adds the sizes of
# production, which take minutes and 8 GB of memory.
set -euo pipefail
cd "$(dirname "$0")/../.."

environment=$(models/export/environment.sh)
python=$environment/bin/python
graphs=.cache/parity/models
rm -rf .cache/parity .cache/parity-*
"$python" -m unittest discover -s models/export/tests -t .
"$python" tests/parity/make_graphs.py
"$python" tests/parity/make_fixture.py
mkdir -p "$graphs"
for mode in base fast; do
    checkpoint=.cache/parity-$mode.pth
    "$python" -m models.export --mode "$mode" --checkpoint "$checkpoint" \
        --md5 "$(md5sum "$checkpoint" | cut -d ' ' -f 1)" \
        --out "$graphs/inspyrenet-$mode.onnx" --manifest
done
"$python" tests/parity/check_onnx.py --graph "$graphs/inspyrenet-base.onnx" "$@"
"$python" tests/parity/check_onnx.py --precision fp16
cargo test --locked --features failpoints --test parity -- --include-ignored --nocapture --test-threads 1
