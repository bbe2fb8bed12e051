#!/usr/bin/env bash
# Makes tests/parity/fixture again from nothing, then compares the exported graph with PyTorch.
# The first run installs the pinned environment (6 GB) into .cache; `--full` goes to check_onnx.py.
set -euo pipefail
cd "$(dirname "$0")/../.."

environment=$(models/export/environment.sh)
"$environment/bin/python" tests/parity/make_fixture.py
"$environment/bin/python" tests/parity/check_onnx.py "$@"
