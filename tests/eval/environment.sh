#!/usr/bin/env bash
# Prints the folder of the Python environment of the evaluation's reference; makes it first if it is not there.
exec "$(dirname "$0")/../../scripts/python_environment.sh" eval tests/eval/requirements.txt \
    "NumPy, SciPy, scikit-image, OpenCV, PySODMetrics: 500 MB"
