"""The check of the image with stand-in builders: when it builds, when it says loudly that it does not."""

import os
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

SCRIPT = Path(__file__).resolve().parent.parent / "check-image.sh"


class Image(unittest.TestCase):
    def check(self, user=0, programs=(), build="exit 0", **settings):
        """Runs a copy of the script where these programs are installed."""
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder)
            tools = root / "tools"
            tools.mkdir()
            (root / "scripts").mkdir()
            shutil.copy(SCRIPT, root / "scripts")
            stand_ins = {"scripts/image.sh": f'echo "image.sh $*"\n{build}', "tools/id": f"echo {user}"}
            stand_ins.update({f"tools/{name}": f"exit {status}" for name, status in programs})
            for path, does in stand_ins.items():
                (root / path).write_text(f"#!/bin/sh\n{does}\n")
                (root / path).chmod(0o755)
            for name in ("bash", "env", "dirname", "sh"):
                (tools / name).symlink_to(shutil.which(name))
            inherited = {name: value for name, value in os.environ.items() if not name.startswith("CUTOUT_")}
            result = subprocess.run(
                [root / "scripts" / SCRIPT.name],
                env={**inherited, "PATH": str(tools), **settings},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        return result.returncode, result.stdout

    def test_the_image_is_built_and_run_with_whatever_builds_images(self):
        for programs in (
            [("docker", 0)],
            [("docker", 1), ("podman", 0)],
            [("buildah", 0), ("mmdebstrap", 0)],
        ):
            self.assertEqual(self.check(programs=programs), (0, "image.sh cpu test\n"), programs)

    def test_an_image_that_is_wrong_fails(self):
        self.assertEqual(self.check(programs=[("docker", 0)], build="exit 3")[0], 3)

    def test_without_a_builder_it_says_loudly_that_nothing_was_built(self):
        for user, programs in (
            (0, []),
            (0, [("docker", 1)]),
            (0, [("buildah", 0)]),
            (1000, [("buildah", 0), ("mmdebstrap", 0)]),
        ):
            status, said = self.check(user, programs)
            self.assertEqual(status, 0)
            self.assertIn("image NOT built nor run", said)
            self.assertEqual(self.check(user, programs, CUTOUT_REQUIRE_IMAGE="1")[0], 1)

    def test_it_can_be_skipped(self):
        status, said = self.check(programs=[("docker", 0)], CUTOUT_SKIP_IMAGE="1")
        self.assertEqual(status, 0)
        self.assertIn("NOT built", said)


if __name__ == "__main__":
    unittest.main()
