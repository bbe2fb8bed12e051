"""The bill of materials, of a small image made here."""

import contextlib
import hashlib
import io
import json
import subprocess
import sys
import tempfile
import unittest
import zlib
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import sbom

DIGEST = "sha256:" + "0" * 64
CRATES = [
    {"name": "cutout", "version": "0.1.0", "source": "local", "dependencies": [1, 3], "root": True},
    {"name": "serde", "version": "1.0.0", "source": "crates.io", "dependencies": [2]},
    {"name": "itoa", "version": "1.0.0", "source": "crates.io"},
    {"name": "cc", "version": "1.0.0", "source": "crates.io", "kind": "build"},
]


class Sbom(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="cutout sbom ")
        self.addCleanup(folder.cleanup)
        self.root = Path(folder.name)
        self.write("var/lib/dpkg/status.d/base", "Package: base-files\nVersion: 12\nArchitecture: amd64\n")
        self.write("var/lib/dpkg/status.d/base.md5sums", "Package: none\nVersion: 1\n")
        network = self.write("opt/cutout/models/tiny.onnx", "weights")
        records = [
            {
                "path": "/opt/cutout/models/tiny.onnx",
                "bytes": 7,
                "sha256": hashlib.sha256(network.read_bytes()).hexdigest(),
                "package": "pkg:npm/%40scope/models@1.0",
                "package_sha256": "1" * 64,
            }
        ]
        self.write("opt/cutout/models/baked.json", json.dumps(records))
        self.program(CRATES)

    def write(self, path, text):
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return file

    def program(self, crates):
        """A program with a section such as cargo-auditable makes."""
        program = self.root / "usr/local/bin/cutout"
        program.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run(["cc", "-shared", "-nostdlib", "-xc", "-", "-o", program], input=b"", check=True)
        if crates is not None:
            listing = self.root / "listing"
            listing.write_bytes(zlib.compress(json.dumps({"packages": crates}).encode()))
            subprocess.run(["objcopy", "--add-section", f".dep-v0={listing}", program], check=True)

    def bill(self):
        document = sbom.bill(self.root, "0.1.0", "abc", DIGEST)
        sbom.validate(document)
        return document

    def test_crates_files_and_packages_are_listed_and_the_document_is_valid(self):
        document = self.bill()
        refs = [component["bom-ref"] for component in document["components"]]
        expected = [
            "pkg:cargo/itoa@1.0.0",
            "pkg:cargo/serde@1.0.0",
            "pkg:deb/debian/base-files@12?arch=amd64",
            "pkg:npm/%40scope/models@1.0",
        ]
        self.assertEqual(refs, expected)
        package = document["components"][3]
        self.assertEqual(package["name"], "@scope/models")
        self.assertEqual(package["components"][0]["type"], "machine-learning-model")

    def test_what_depends_on_what_is_told_without_what_only_built_it(self):
        edges = {edge["ref"]: edge["dependsOn"] for edge in self.bill()["dependencies"]}
        self.assertIn("pkg:cargo/serde@1.0.0", edges["image"])
        self.assertEqual(edges["pkg:cargo/serde@1.0.0"], ["pkg:cargo/itoa@1.0.0"])
        self.assertNotIn("pkg:cargo/cc@1.0.0", str(edges))

    def test_the_same_image_gives_the_same_document(self):
        self.assertEqual(self.bill(), self.bill())

    def test_a_baked_file_that_was_changed_is_refused(self):
        self.write("opt/cutout/models/tiny.onnx", "others")
        with self.assertRaisesRegex(sbom.SbomError, "was baked in with"):
            self.bill()

    def test_a_program_without_its_list_is_refused(self):
        self.program(None)
        arguments = [str(self.root), "--version", "1", "--revision", "a", "--digest", DIGEST]
        with contextlib.redirect_stdout(io.StringIO()) as said:
            self.assertEqual(sbom.main([*arguments, "--out", str(self.root / "out")]), 1)
        self.assertIn("cargo-auditable", said.getvalue())

    def test_an_invalid_document_is_refused(self):
        with self.assertRaisesRegex(sbom.SbomError, "not valid"):
            sbom.validate({"bomFormat": "CycloneDX", "specVersion": "1.5", "components": [{"name": "no type"}]})

    def test_digests_of_crates_come_from_the_lock_file(self):
        lock = (Path(sbom.ROOT) / "Cargo.lock").read_text()
        digests = sbom.locked(lock)
        self.assertGreater(len(digests), 100)
        self.assertIn("tokio", {name for name, _ in digests})


if __name__ == "__main__":
    unittest.main()
