#!/usr/bin/env bash
# Prints the folder of the exporter's Python environment; makes it first if it is not there.
# overrides.txt says what the list leaves out.
exec "$(dirname "$0")/../../scripts/python_environment.sh" export models/export/requirements.txt \
    "PyTorch and its libraries: 6 GB, some minutes"
