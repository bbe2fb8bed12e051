"""The advisory check with a stand-in cargo: what it says and exits with."""

import os
import subprocess
import tempfile
import unittest
from pathlib import Path

SCRIPT = Path(__file__).resolve().parent.parent / "check-advisories.sh"


class Advisories(unittest.TestCase):
    def check(self, fetch, check, said="failed to fetch database: no such host", **settings):
        """Runs the script with a cargo whose fetch and check exit with the given numbers."""
        with tempfile.TemporaryDirectory() as folder:
            cargo = Path(folder) / "cargo"
            cargo.write_text(
                "#!/bin/sh\n"
                f'case "$*" in *fetch*) echo "{said}"; exit {fetch};; esac\n'
                f'echo "checked with: $*"; exit {check}\n'
            )
            cargo.chmod(0o755)
            result = subprocess.run(
                [SCRIPT],
                env={**os.environ, "PATH": f"{folder}:{os.environ['PATH']}", **settings},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        return result.returncode, result.stdout

    def test_a_reachable_database_is_checked_against(self):
        status, said = self.check(fetch=0, check=0)
        self.assertEqual(status, 0)
        self.assertIn("checked with: deny --locked check advisories", said)
        self.assertNotIn("NOT checked", said)

    def test_an_advisory_that_applies_fails(self):
        self.assertEqual(self.check(fetch=0, check=1)[0], 1)

    def test_an_unreachable_database_passes_and_says_so_with_the_reason(self):
        status, said = self.check(fetch=1, check=1)
        self.assertEqual(status, 0)
        self.assertIn("advisories NOT checked", said)
        self.assertIn("no such host", said)

    def test_a_database_that_fails_for_another_reason_fails(self):
        status, said = self.check(fetch=1, check=0, said="the address has no domain name")
        self.assertEqual(status, 1)
        self.assertIn("the address has no domain name", said)

    def test_a_fetch_that_hangs_counts_as_unreachable(self):
        status, said = self.check(fetch=124, check=0, said="")  # what timeout(1) exits with
        self.assertEqual(status, 0)
        self.assertIn("advisories NOT checked", said)

    def test_an_unreachable_database_fails_where_it_is_required(self):
        self.assertEqual(self.check(fetch=1, check=0, CUTOUT_REQUIRE_ADVISORIES="1")[0], 1)


if __name__ == "__main__":
    unittest.main()
