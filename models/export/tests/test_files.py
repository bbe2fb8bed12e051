"""Checkpoints are what they claim to be, and manifests say what the worker needs."""

import hashlib
import tempfile
import tomllib
import unittest
from pathlib import Path

import numpy as np
from onnx import helper, numpy_helper

from models.export import checkpoints, isnet, manifest

WORKER_KEYS = {
    "name", "description", "file", "bytes", "sha256", "licence", "provenance",
    "resize", "any_size", "input", "output",
}  # fmt: skip
"""What the worker's parser takes, which refuses anything else (src/model/manifest.rs)."""


class Files(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def write(self, name: str, data: bytes) -> Path:
        path = self.folder / name
        path.write_bytes(data)
        return path


class Checkpoints(Files):
    def test_a_checkpoint_with_another_digest_is_refused_and_named(self):
        path = self.write("ckpt_base.pth", b"something else")
        with self.assertRaises(checkpoints.ExportError) as caught:
            checkpoints.verify(path, checkpoints.published("base").md5)
        self.assertIn("ckpt_base.pth", str(caught.exception))
        self.assertIn(hashlib.md5(b"something else").hexdigest(), str(caught.exception))

    def test_a_missing_checkpoint_says_how_to_get_it(self):
        with self.assertRaises(checkpoints.ExportError) as caught:
            checkpoints.verify(self.folder / "none.pth", None)
        self.assertIn("--download", str(caught.exception))

    def test_a_download_that_fails_leaves_nothing_and_says_what_to_do(self):
        # Port 9 of this machine: nothing answers there.
        unreachable = checkpoints.Checkpoint("base", "http://127.0.0.1:9/x.pth", "x.pth", "0" * 32)
        with self.assertRaises(checkpoints.ExportError) as caught:
            checkpoints.download(unreachable, self.folder)
        self.assertIn("--checkpoint", str(caught.exception))
        self.assertEqual(list(self.folder.iterdir()), [])

    def test_a_download_with_another_digest_is_not_kept_under_the_right_name(self):
        served = self.write("served.pth", b"tampered")
        wanted = checkpoints.Checkpoint("base", served.as_uri(), "x.pth", "0" * 32)
        with self.assertRaises(checkpoints.ExportError):
            checkpoints.download(wanted, self.folder)
        self.assertFalse((self.folder / "x.pth").exists())

    def test_the_right_file_is_not_fetched_again(self):
        here = self.write("x.pth", b"right")
        md5 = hashlib.md5(b"right").hexdigest()
        unreachable = checkpoints.Checkpoint("base", "http://127.0.0.1:9/x.pth", "x.pth", md5)
        self.assertEqual(checkpoints.download(unreachable, self.folder), here)

    def test_every_mode_has_a_checkpoint(self):
        for mode in checkpoints.MODES:
            self.assertTrue(checkpoints.published(mode).url.startswith("https://"))


class Manifests(Files):
    def test_the_completed_manifest_has_what_the_worker_reads_and_nothing_else(self):
        graph = self.write("g.onnx", b"graph")
        for mode in checkpoints.MODES:
            path = manifest.write(manifest.template(f"inspyrenet-{mode}"), graph)
            found = tomllib.loads(path.read_text("utf-8"))
            self.assertEqual(set(found), WORKER_KEYS)
            self.assertEqual(found["file"], "g.onnx")
            self.assertEqual(found["bytes"], 5)
            self.assertEqual(found["sha256"], hashlib.sha256(b"graph").hexdigest())
            self.assertEqual(found["name"], f"inspyrenet-{mode}")

    def test_rendering_loses_and_changes_nothing(self):
        for path in checkpoints.MANIFESTS.glob("*.toml"):
            known = tomllib.loads(path.read_text("utf-8"))
            self.assertEqual(tomllib.loads(manifest.render(known)), known, path.name)


class Isnet(unittest.TestCase):
    def test_nodes_come_after_what_they_need_and_unneeded_ones_go(self):
        nodes = [
            helper.make_node("Add", ["b", "a"], ["mask"]),
            helper.make_node("Relu", ["a"], ["b"]),
            helper.make_node("Neg", ["b"], ["unused"]),
            helper.make_node("Abs", ["pixels"], ["a"]),
        ]
        found = [node.op_type for node in isnet.in_order(nodes, "mask")]
        self.assertEqual(found, ["Abs", "Relu", "Add"])

    def test_a_batch_is_free_only_where_pictures_cannot_meet_in_it(self):
        sizes = numpy_helper.from_array(np.array([1, 1, 8, 8]), "sizes")
        free = [helper.make_node("Resize", ["a", "", "", "computed"], ["b"])]
        fixed = [helper.make_node("Resize", ["a", "", "", "sizes"], ["b"])]
        mixing = [helper.make_node("DynamicQuantizeLinear", ["a"], ["b", "scale", "zero"])]
        for nodes, expected in ((free, True), (fixed, False), (mixing, False)):
            graph = helper.make_graph(nodes, "g", [], [], [sizes])
            self.assertIs(isnet.batch_is_free(graph), expected, nodes[0].op_type)


if __name__ == "__main__":
    unittest.main()
