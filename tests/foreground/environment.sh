#!/usr/bin/env bash
# Prints the folder of the Python environment of the foregrounds' reference; makes it first if it is not there.
exec "$(dirname "$0")/../../scripts/python_environment.sh" foreground tests/foreground/requirements.txt \
    "PyMatting, Numba, NumPy, SciPy, Pillow: 500 MB"
