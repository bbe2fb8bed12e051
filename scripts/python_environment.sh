#!/usr/bin/env bash
# Prints the folder of a Python environment of its own; makes it first if it is not there.
#
#   scripts/python_environment.sh NAME REQUIREMENTS WHAT_IS_IN_IT
#
# REQUIREMENTS is a complete list with hashes: nothing is resolved.
set -euo pipefail
cd "$(dirname "$0")/.."

environment=.cache/venv-$1
requirements=$2
# The copied list marks a finished environment: an interrupted or outdated one is made anew.
if ! cmp -s "$requirements" "$environment/requirements.txt"; then
    echo "making $environment ($3)" >&2
    "${PYTHON:-python3}" -m venv --clear "$environment" >&2
    "$environment/bin/pip" install --quiet --disable-pip-version-check --no-deps --require-hashes \
        -r "$requirements" >&2
    cp "$requirements" "$environment/requirements.txt"
fi
echo "$environment"
