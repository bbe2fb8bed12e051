"""The check of the alerting rules with a stand-in promtool: what it runs and exits with."""

import os
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

SCRIPT = Path(__file__).resolve().parent.parent / "check-alerts.sh"


class Alerts(unittest.TestCase):
    def check(self, promtool=None, **settings):
        """Runs a copy of the script in a checkout whose cache may hold this promtool."""
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder)
            (root / "scripts").mkdir()
            shutil.copy(SCRIPT, root / "scripts")
            if promtool is not None:
                program = root / ".cache/bin/promtool"
                program.parent.mkdir(parents=True)
                program.write_text(f"#!/bin/sh\necho \"promtool $*\"\n{promtool}\n")
                program.chmod(0o755)
            tools = root / "tools"
            tools.mkdir()
            for name in ("bash", "env", "dirname", "sh"):
                (tools / name).symlink_to(shutil.which(name))
            result = subprocess.run(
                [root / "scripts" / SCRIPT.name],
                env={**os.environ, "PATH": str(tools), **settings},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        return result.returncode, result.stdout

    def test_the_rules_are_checked_and_their_tests_run(self):
        status, said = self.check("exit 0")
        self.assertEqual(status, 0)
        self.assertIn("check rules --lint=all --lint-fatal monitoring/alerts.yaml", said)
        self.assertIn("test rules monitoring/alerts_test.yaml", said)

    def test_a_rule_that_is_wrong_fails(self):
        self.assertEqual(self.check("exit 3")[0], 3)

    def test_without_promtool_it_says_loudly_that_nothing_was_checked(self):
        status, said = self.check()
        self.assertEqual(status, 0)
        self.assertIn("alerting rules NOT tested", said)
        self.assertEqual(self.check(CUTOUT_REQUIRE_PROMTOOL="1")[0], 1)


if __name__ == "__main__":
    unittest.main()
