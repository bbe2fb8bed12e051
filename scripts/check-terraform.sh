#!/usr/bin/env bash
# Checks the Terraform code without a cloud, a provider or a network: scripts/terraform/check.py always;
# the form of the files and the module's variables with Terraform itself, where there is one on PATH. Without it
# what was not checked is announced loudly. CUTOUT_REQUIRE_TERRAFORM=1 makes its absence a failure.
set -euo pipefail
cd "$(dirname "$0")/.."

(cd scripts && "${PYTHON:-python3}" -m terraform.check ../terraform)

if ! command -v terraform >/dev/null; then
    echo '############################################################################' >&2
    echo '#  Terraform: form and variables NOT checked: there is no terraform here   #' >&2
    echo '############################################################################' >&2
    echo 'Terraform 1.9 or newer: put it on PATH and run this again.' >&2
    if [ "${CUTOUT_REQUIRE_TERRAFORM:-}" = 1 ]; then exit 1; fi
    exit 0
fi
export CHECKPOINT_DISABLE=1
terraform fmt -check -diff -recursive terraform

# `terraform test` in the module itself would ask for Google's provider. Variables and what follows from them
# need none: they are tested in a folder of their own.
apart=$(mktemp -d)
trap 'rm -rf "$apart"' EXIT
cp terraform/modules/cutout/variables.tf terraform/modules/cutout/settings.tf terraform/tests/*.tftest.hcl "$apart"
terraform -chdir="$apart" init -backend=false -input=false >/dev/null
terraform -chdir="$apart" test -no-color
