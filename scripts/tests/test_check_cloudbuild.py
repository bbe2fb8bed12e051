"""The check of cloudbuild.yaml: the file itself, and what is found in broken ones."""

import sys
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import check_cloudbuild
from check_cloudbuild import ROOT, check

FILE = (ROOT / "cloudbuild.yaml").read_text("utf-8")


class CheckCloudBuild(unittest.TestCase):
    def mistake(self, right, mistaken, told):
        self.assertIn(right, FILE)
        wrong = check(FILE.replace(right, mistaken))
        self.assertTrue(any(told in line for line in wrong), wrong)

    def test_the_file_is_right(self):
        self.assertEqual(check(FILE), [])
        self.assertEqual(check_cloudbuild.main([]), 0)

    def test_what_is_no_yaml_is_told(self):
        self.mistake("timeout: 3600s", "timeout: : 3600s", "is no YAML")

    def test_an_unknown_field_is_told_at_any_depth(self):
        self.mistake("timeout: 3600s", "timeOut: 3600s", "build.timeOut is no field")
        self.mistake("    waitFor: [build]", "    waitfor: [build]", "build.steps[2].waitfor is no field")
        self.mistake("diskSizeGb", "diskSizeGB", "build.options.diskSizeGB is no field")

    def test_wrong_types_and_values_are_told(self):
        self.mistake("machineType: E2_HIGHCPU_8", "machineType: E2_HIGHCPU_9", "not one of")
        self.mistake("timeout: 3600s", "timeout: 3600", "should be of type string")
        self.mistake("timeout: 3600s", "timeout: 60m", "a duration is")
        self.mistake("diskSizeGb: 100", "diskSizeGb: large", "should be of type string")
        self.mistake("dynamicSubstitutions: true", 'dynamicSubstitutions: "true"', "should be of type boolean")
        self.mistake("waitFor: [test, scan]", "waitFor: test", "should be of type array")
        self.mistake("  _VERSION: 0.1.0", "  _VERSION: 0.1", "should be of type string")

    def test_what_cloud_build_sets_itself_is_told(self):
        self.mistake("timeout: 3600s", "timeout: 3600s\nstatus: SUCCESS", "is for Cloud Build to set")

    def test_steps_wait_for_steps_before_them(self):
        self.mistake("waitFor: [test, scan]", "waitFor: [test, sign]", "waits for sign, which is no step before it")
        self.mistake("- id: scan", "- id: test", "two steps are called test")
        self.mistake("  - id: scan\n    name", "  - name", "has no id")

    def test_images_have_fixed_tags(self):
        for tag in ("latest", "28", "28-cli", "28.5"):
            self.mistake("docker:28.5.2-cli", f"docker:{tag}", "may be another one tomorrow")
        self.mistake("library/docker:28.5.2-cli", "library/docker", "may be another one tomorrow")
        self.assertEqual(check(FILE.replace("docker:28.5.2-cli", "docker@sha256:" + "0" * 64)), [])

    def test_substitutions_are_declared_used_and_well_named(self):
        self.mistake("$_MODEL", "$_NETWORK", "uses _NETWORK, which is neither")
        self.mistake("$_MODEL", "isnet", "substitution _MODEL is not used")
        self.mistake("  _MODEL:", "  MODEL:", "does not begin with _")
        self.mistake("${_IMAGE}:${COMMIT_SHA}", "${_IMAGES}:${COMMIT_SHA}", "build.images[0] uses _IMAGES")
        self.mistake("  dynamicSubstitutions: true\n", "", "need options.dynamicSubstitutions")
        self.mistake("  automapSubstitutions: true\n", "", "see no substitutions")

    def test_scripts_are_held_to_their_shell(self):
        self.mistake('if [ -z "${_WORKER_POOL:-}" ]; then', 'if [ -z "${_WORKER_POOL:-}" ]', "the script of step deploy")
        self.mistake("scripts/sbom.py", "scripts/bill.py", "runs scripts/bill.py, which does not exist")
        self.mistake("      #!/bin/sh\n      set -eu\n      docker push", "      set -eu\n      docker push", "does not begin with")
        self.mistake("      set -eu\n      docker push", "      docker push", "goes on after errors")


if __name__ == "__main__":
    unittest.main()
