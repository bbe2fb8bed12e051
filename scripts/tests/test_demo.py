"""The demo script around a stand-in worker: what it waits for, says, forwards and exits with."""

import os
import pty
import random
import signal
import socket
import subprocess
import tempfile
import threading
import time
import unittest
from pathlib import Path

SCRIPTS = Path(__file__).resolve().parent.parent
SAMPLES = sorted(path.stem for path in (SCRIPTS.parent / "samples").glob("*.jpg"))


def unused_port():
    """A port that nobody has, nor the one after it.

    Below the range from which the kernel gives ports to outgoing connections: those come and go
    between this look and the demo's own.
    """
    while True:
        port = random.randrange(20_000, 32_000)
        try:
            for number in (port, port + 1):
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", number))
        except OSError:
            continue
        return port


class Demo(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="cutout demo ")  # the space is part of the test
        self.addCleanup(folder.cleanup)
        self.root = Path(folder.name)

    def environment(self, **settings):
        settings.setdefault("CUTOUT_DEMO_DIR", str(self.root))
        # Two suites on one machine must not take each other's ports.
        settings.setdefault("CUTOUT_DEMO_PORT", str(unused_port()))
        settings.setdefault("CUTOUT_BIN", str(SCRIPTS / "tests" / "fake_worker.py"))
        return {**os.environ, **settings}

    def run_demo(self, **settings):
        result = subprocess.run(
            [SCRIPTS / "demo.sh"],
            env=self.environment(**settings),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=60,
        )
        return result.returncode, result.stdout

    def lines(self, name):
        path = self.root / name
        return path.read_text().split() if path.exists() else []

    def test_the_samples_come_out_and_the_worker_is_drained_once(self):
        status, said = self.run_demo(CUTOUT_DEMO_EXIT="1")
        self.assertEqual(status, 0, said)
        outbox = sorted(path.name for path in (self.root / "outbox").iterdir())
        self.assertEqual(outbox, [f"{name}.cutout.png" for name in SAMPLES])
        self.assertIn(f"the cut-outs are in {self.root}/outbox", said)
        self.assertEqual(self.lines("signals"), ["SIGTERM"])
        self.assertEqual(self.lines("drained"), ["drained"])

    def test_a_second_demo_leaves_the_photos_of_the_first_as_they_are(self):
        self.run_demo(CUTOUT_DEMO_EXIT="1")
        photo = self.root / "inbox" / f"{SAMPLES[0]}.jpg"
        before = photo.stat().st_mtime_ns
        status, _ = self.run_demo(CUTOUT_DEMO_EXIT="1")
        self.assertEqual((status, photo.stat().st_mtime_ns), (0, before))

    def test_the_workers_own_status_is_passed_on(self):
        status, said = self.run_demo(CUTOUT_DEMO_EXIT="1", FAKE_WORKER_STATUS="7")
        self.assertEqual(status, 7, said)

    def test_a_worker_that_dies_is_reported(self):
        status, said = self.run_demo(FAKE_WORKER="dies")
        self.assertEqual(status, 1)
        self.assertIn("the worker died before readiness", said)

    def test_a_cut_out_that_never_comes_is_reported_and_the_worker_stopped(self):
        status, said = self.run_demo(FAKE_WORKER="idle", CUTOUT_DEMO_PATIENCE="3")
        self.assertEqual(status, 1)
        self.assertIn("no sign of every cut-out", said)
        self.assertEqual(self.lines("drained"), ["drained"])

    def test_a_missing_program_says_how_to_build_it(self):
        status, said = self.run_demo(CUTOUT_BIN=str(self.root / "none"))
        self.assertEqual(status, 1)
        self.assertIn("run make demo", said)

    def test_a_taken_port_is_passed_over_and_named(self):
        with socket.socket() as taken:
            port = unused_port()
            taken.bind(("127.0.0.1", port))
            taken.listen()
            status, said = self.run_demo(CUTOUT_DEMO_EXIT="1", CUTOUT_DEMO_PORT=str(port))
        self.assertEqual(status, 0, said)
        self.assertIn(f"port {port} is taken; using ", said)

    def test_ctrl_c_on_a_terminal_reaches_the_worker_as_one_signal(self):
        # A real terminal, since only that signals every process in the foreground at once.
        child, terminal = pty.fork()
        if child == 0:
            # Who started the tests in the background had it ignored, and a shell leaves it so.
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            os.execve(SCRIPTS / "demo.sh", ["demo.sh"], self.environment(FAKE_WORKER_STATUS="5"))
        said = bytearray()
        reader = threading.Thread(target=self.read_all, args=(terminal, said), daemon=True)
        reader.start()
        self.wait_for(lambda: b"Ctrl-C drains" in said)
        os.write(terminal, b"\x03")
        _, status = os.waitpid(child, 0)
        reader.join(5)
        os.close(terminal)
        self.assertEqual(os.waitstatus_to_exitcode(status), 5, said.decode())
        self.assertEqual(self.lines("signals"), ["SIGTERM"])
        self.assertEqual(self.lines("drained"), ["drained"])

    def test_a_stop_while_the_samples_are_still_being_made_drains_too(self):
        demo = subprocess.Popen(
            [SCRIPTS / "demo.sh"],
            env=self.environment(FAKE_WORKER="idle"),
            stdout=subprocess.DEVNULL,
        )
        self.wait_for(lambda: (self.root / "outbox").exists())
        demo.send_signal(signal.SIGTERM)
        self.assertEqual(demo.wait(20), 0)
        self.assertEqual(self.lines("drained"), ["drained"])

    @staticmethod
    def read_all(terminal, into):
        while True:
            try:
                block = os.read(terminal, 4096)
            except OSError:  # the terminal's other side is closed
                return
            into.extend(block)

    def wait_for(self, condition):
        deadline = time.monotonic() + 30
        while not condition():
            self.assertLess(time.monotonic(), deadline, "waited too long")
            time.sleep(0.05)


if __name__ == "__main__":
    unittest.main()
