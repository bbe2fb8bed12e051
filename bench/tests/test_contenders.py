"""The processes around stand-ins: a worker that copies its photos, a rembg of a few lines."""

import os
import sys
import tempfile
import unittest
from pathlib import Path
from unittest import mock

from bench.peers import contenders, measure
from bench.peers.contenders import Command

FAKE_WORKER = Path(__file__).resolve().parent.parent.parent / "scripts" / "tests" / "fake_worker.py"

REMBG = """
print("what a library prints when it is imported")
def new_session(name, model_path, providers):
    assert (name, providers) == ("dis_custom", ["CPUExecutionProvider"])
    return model_path
def remove(photo, session):
    if photo == b"broken": raise ValueError("this photo is broken")
    return photo
"""


class Contenders(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(
            prefix="cutout peers "
        )  # the space is part of the test
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        (self.folder / "modules").mkdir()
        (self.folder / "modules" / "rembg.py").write_text(REMBG)
        self.photos = [self.photo(f"photo-{n}.jpg", measure.PNG + b"x" * n) for n in range(3)]
        # The stand-in keeps the name of what it is given, and PATH finds it its Python.
        settings = {"CUTOUT_BIN": str(FAKE_WORKER), "PYTHONPATH": str(self.folder / "modules")}
        patch = mock.patch.dict(os.environ, settings)
        patch.start()
        self.addCleanup(patch.stop)

    def photo(self, name, content):
        path = self.folder / name
        path.write_bytes(content)
        return path

    def started(self, command):
        contender = command.served(self.folder)
        self.addCleanup(contender.close)
        return contender

    def peer(self, *flags):
        return Command(
            "rembg", "peer", ("rembg", str(self.folder / "net.onnx"), *flags), Path(sys.executable)
        )

    def test_a_worker_gets_the_same_photo_again_under_another_name(self):
        worker = self.started(Command("cutout", "worker"))
        for tag in ("0-0", "1-0"):
            (count, seconds, _, _, size), outputs = measure.one(worker, self.photos, tag)
            self.assertEqual((count, size), (3, 8 + 9 + 10))
            self.assertGreater(seconds, 0)
            self.assertEqual(
                [out.name for out in outputs], [f"{tag}-photo-{n}.cutout.png" for n in range(3)]
            )

    def test_a_peer_answers_for_each_chunk_whatever_its_library_prints(self):
        peer = self.started(self.peer("--threads", "2"))
        for tag in ("0-0", "0-1"):
            (count, *_, size), outputs = measure.one(peer, self.photos, tag)
            self.assertEqual((count, size), (3, 8 + 9 + 10))
            self.assertEqual(outputs[2].read_bytes(), self.photos[2].read_bytes())

    def test_an_output_that_is_no_png_stops_the_comparison(self):
        peer = self.started(self.peer())
        with self.assertRaisesRegex(
            contenders.Failed, "rembg wrote 0-0-other.png, which is no PNG"
        ):
            measure.one(peer, [self.photo("other.jpg", b"text")], "0-0")

    def test_a_peer_that_fails_is_quoted(self):
        peer = self.started(self.peer())
        with self.assertRaisesRegex(contenders.Failed, "this photo is broken"):
            measure.one(peer, [self.photo("other.jpg", b"broken")], "0-0")

    def test_a_worker_that_dies_at_the_start_is_noticed(self):
        with mock.patch.dict(os.environ, FAKE_WORKER="dies"):
            with self.assertRaisesRegex(contenders.Failed, "cutout ended with 3"):
                Command("cutout", "worker").served(self.folder)

    def test_a_fresh_process_is_timed_to_its_first_png_and_ended(self):
        for command in (Command("cutout", "worker"), self.peer()):
            seconds, _, others = contenders.start_cold(command, self.photos[0], self.folder)
            self.assertGreater(seconds, 0)
            self.assertGreaterEqual(others, 0)
        self.assertEqual(list(self.folder.glob("*-cold-*")), [])

    def test_a_fresh_process_that_fails_is_quoted(self):
        with self.assertRaisesRegex(contenders.Failed, "this photo is broken"):
            contenders.start_cold(self.peer(), self.photo("other.jpg", b"broken"), self.folder)

    def test_no_contender_inherits_a_limit_on_its_threads(self):
        with mock.patch.dict(os.environ, OMP_NUM_THREADS="1", CUTOUT_THREADS="1"):
            self.assertFalse({"OMP_NUM_THREADS", "CUTOUT_THREADS"} & set(contenders.surroundings()))


if __name__ == "__main__":
    unittest.main()
