#!/usr/bin/env bash
# Makes samples/ and tests/fixtures/ again from nothing, with the pinned reference environment.
# Needs what `scripts/setup.py runtime` places.
set -euo pipefail
cd "$(dirname "$0")/.."

environment=.cache/venv-reference
requirements=tests/reference/requirements.txt
# The copied list marks a finished environment: an interrupted or outdated one is made anew.
if ! cmp -s "$requirements" "$environment/requirements.txt"; then
    "${PYTHON:-python3}" -m venv --clear "$environment"
    "$environment/bin/pip" install --quiet --disable-pip-version-check -r "$requirements"
    cp "$requirements" "$environment/requirements.txt"
fi

"$environment/bin/python" scripts/make_samples.py
"$environment/bin/python" tests/reference/make_images.py
"$environment/bin/python" tests/reference/make_colour.py
"$environment/bin/python" tests/reference/make_shadows.py
"$environment/bin/python" tests/reference/make_masks.py
"$environment/bin/python" tests/reference/make_rembg.py
"$(tests/effects/environment.sh)/bin/python" tests/effects/reference.py
tests/eval/make.sh
"$(tests/foreground/environment.sh)/bin/python" tests/foreground/make.py
"$(tests/eval/environment.sh)/bin/python" tests/refine/make.py
