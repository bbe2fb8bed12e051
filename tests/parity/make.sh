#!/usr/bin/env bash
# Makes tests/parity/fixture again from nothing and compares exported graphs with PyTorch.
# The first run installs the pinned environment (6 GB) into .cache; `--full` adds the sizes of
# production, which take minutes and 8 GB of memory.
set -euo pipefail
cd "$(dirname "$0")/../.."

environment=$(models/export/environment.sh)
rm -f .cache/parity-*
"$environment/bin/python" -m unittest discover -s models/export/tests -t .
"$environment/bin/python" tests/parity/make_graphs.py
"$environment/bin/python" tests/parity/make_fixture.py
"$environment/bin/python" tests/parity/check_onnx.py "$@"
"$environment/bin/python" tests/parity/check_onnx.py --precision fp16
