#!/usr/bin/env bash
# Prints the folder of the Python environment of the effects' reference; makes it first if it is not there.
set -euo pipefail
cd "$(dirname "$0")/../.."

environment=.cache/venv-effects
requirements=tests/effects/requirements.txt
# The copied list marks a finished environment: an interrupted or outdated one is made anew.
if ! cmp -s "$requirements" "$environment/requirements.txt"; then
    echo "making $environment (NumPy, OpenCV, Pillow: 250 MB)" >&2
    "${PYTHON:-python3}" -m venv --clear "$environment" >&2
    "$environment/bin/pip" install --quiet --disable-pip-version-check --no-deps --require-hashes \
        -r "$requirements" >&2
    cp "$requirements" "$environment/requirements.txt"
fi
echo "$environment"
