#!/usr/bin/env bash
# Makes tests/fixtures/measures and tests/fixtures/eval again from nothing, with the pinned environment.
set -euo pipefail
cd "$(dirname "$0")/../.."

python=$(tests/eval/environment.sh)/bin/python
"$python" tests/eval/make_pairs.py
"$python" scripts/make_eval_set.py
