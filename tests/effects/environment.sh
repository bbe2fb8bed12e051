#!/usr/bin/env bash
# Prints the folder of the Python environment of the effects' reference; makes it first if it is not there.
exec "$(dirname "$0")/../../scripts/python_environment.sh" effects tests/effects/requirements.txt \
    "NumPy, OpenCV, Pillow: 250 MB"
