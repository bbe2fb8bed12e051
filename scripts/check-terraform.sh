#!/usr/bin/env bash
# Checks the Terraform code without a cloud, Google's provider or a network: scripts/terraform/check.py always, and
# scripts/kubernetes/manifests.py for the manifests for GKE;
# `terraform fmt`, `validate` and `test` where there is a Terraform on PATH, with a stand-in for the provider
# (scripts/terraform/stand_in.py). Without one, what was not checked is announced loudly. CUTOUT_REQUIRE_TERRAFORM=1 makes its absence a failure.
set -euo pipefail
cd "$(dirname "$0")/.."

(
    cd scripts
    "${PYTHON:-python3}" -m terraform.check ../terraform
    "${PYTHON:-python3}" -m kubernetes.manifests ../deploy/gke
)

if ! command -v terraform >/dev/null; then
    echo '###########################################################################' >&2
    echo '#  Terraform code NOT formatted, validated, tested: there is no terraform #' >&2
    echo '###########################################################################' >&2
    echo 'Terraform 1.9 or newer: put it on PATH and run this again.' >&2
    if [ "${CUTOUT_REQUIRE_TERRAFORM:-}" = 1 ]; then exit 1; fi
    exit 0
fi
export CHECKPOINT_DISABLE=1
terraform fmt -check -diff -recursive terraform

# In a copy, since Terraform writes beside the files. The stand-in knows the schema alone: the examples are
# validated, and the module's tests run with mock_provider, which needs no more.
copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
cp -r terraform "$copy"
for folder in examples/minimal examples/production modules/cutout; do
    (
        cd scripts
        apart() {
            "${PYTHON:-python3}" -m terraform.stand_in terraform -chdir="$copy/terraform/$folder" "$@"
        }
        apart init -backend=false -input=false -no-color >"$copy/init.log" || { cat "$copy/init.log"; exit 1; }
        apart validate -no-color
        if [ -d "../terraform/$folder/tests" ]; then apart test -no-color; fi
    )
done
