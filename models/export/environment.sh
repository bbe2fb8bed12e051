#!/usr/bin/env bash
# Prints the folder of the exporter's Python environment; makes it first if it is not there.
set -euo pipefail
cd "$(dirname "$0")/../.."

environment=.cache/venv-export
requirements=models/export/requirements.txt
# The copied list marks a finished environment: an interrupted or outdated one is made anew.
if ! cmp -s "$requirements" "$environment/requirements.txt"; then
    echo "making $environment (PyTorch and its libraries: 6 GB, some minutes)" >&2
    "${PYTHON:-python3}" -m venv --clear "$environment" >&2
    # No dependency resolution: the list is complete, and overrides.txt says what it leaves out.
    "$environment/bin/pip" install --quiet --disable-pip-version-check --no-deps --require-hashes \
        -r "$requirements" >&2
    cp "$requirements" "$environment/requirements.txt"
fi
echo "$environment"
