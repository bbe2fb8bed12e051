#!/usr/bin/env python3
"""Runs a worker out of an image against the emulators: image_test.py BUILDER TAG PROVIDER.

As in production: the user and the environment of the image, a read-only root, no privileges, Pub/Sub
and Cloud Storage. With docker or podman their own means are used; with buildah the image is mounted
read-only in a mount namespace of its own, and the entry point is started in it (root is needed).

cpu:  the worker gets ready, cuts a photo out, writes its PNG and the result, and on SIGTERM, in
      the middle of another one, drains and exits with 0 within ten seconds. A second one, with ONNX Runtime's own
      kernels, starts too, and finds that job done or does it.
cuda: where there is no card, the worker must not start, and must name the driver and no library.
"""

from __future__ import annotations

import base64
import contextlib
import ctypes
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, Iterator

ROOT = Path(__file__).resolve().parent.parent
BIN = ROOT / ".cache/bin"
PROJECT, BUCKET, JOBS, RESULTS = "cutout-image", "photos", "cutout-jobs", "cutout-results"
PATIENCE = 120
# With docker the worker joins this network, on which the emulators are at 127.0.0.1.
NETWORK = os.environ.get("CUTOUT_TEST_NETWORK", "host")
PR_SET_NO_NEW_PRIVS = 38


def say(line: str) -> None:
    print(f"image-test: {line}", flush=True)


class Failed(Exception):
    """What the image did wrong."""


# How an image is run --------------------------------------------------------------------------


class Mounted:
    """An image of buildah's store, run in a read-only mount of it."""

    def __init__(self, tag: str) -> None:
        inspected = json.loads(output(["buildah", "inspect", "--type", "image", tag]))
        self.config: dict[str, Any] = inspected["OCIv1"]["config"]
        # OCI's configuration has no place for it.
        self.health_check: dict[str, Any] = inspected["Docker"]["config"].get("Healthcheck", {})
        self.container = output(["buildah", "from", "--pull-never", tag]).strip()
        self.root = Path(output(["buildah", "mount", self.container]).strip())

    def command(self, environment: dict[str, str], arguments: list[str]) -> list[str]:
        environment = {**dict(pair.split("=", 1) for pair in self.config["Env"]), **environment}
        start = {
            "root": str(self.root),
            "directory": self.config["WorkingDir"],
            "user": self.config["User"],
            "arguments": [*self.config["Entrypoint"], *(arguments or self.config["Cmd"])],
            "environment": environment,
        }
        return ["unshare", "--mount", "--propagation=private", sys.executable, __file__, "--inside", json.dumps(start)]

    def remove(self) -> None:
        output(["buildah", "rm", self.container])


class Container:
    """An image of docker or podman."""

    def __init__(self, builder: str, tag: str) -> None:
        self.builder, self.tag = builder, tag
        (inspected,) = json.loads(output([builder, "inspect", tag]))
        self.config: dict[str, Any] = inspected["Config"]
        self.health_check: dict[str, Any] = self.config.get("Healthcheck", {})

    def command(self, environment: dict[str, str], arguments: list[str]) -> list[str]:
        settings = [word for pair in environment.items() for word in ("--env", "=".join(pair))]
        return [
            *(self.builder, "run", "--rm", "--read-only", f"--network={NETWORK}", "--cap-drop=ALL"),
            *("--security-opt=no-new-privileges", *settings, self.tag, *arguments),
        ]

    def remove(self) -> None:
        pass


def inside(start: dict[str, Any]) -> None:
    """Becomes the entry point: in a mount namespace that is ours alone, as the image's user."""
    root = start["root"]
    subprocess.run(["mount", "--rbind", root, root], check=True)
    for folder in ("proc", "dev"):
        subprocess.run(["mount", "--rbind", f"/{folder}", f"{root}/{folder}"], check=True)
    subprocess.run(["mount", "-o", "remount,bind,ro", root], check=True)
    os.chroot(root)
    os.chdir(start["directory"])
    user, group = map(int, start["user"].split(":"))
    os.setgroups([])
    os.setgid(group)
    os.setuid(user)
    if ctypes.CDLL(None).prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        raise OSError("privileges cannot be given up")
    for place in ("/data/probe", "/tmp/probe", "/opt/cutout/probe"):
        try:
            os.close(os.open(place, os.O_CREAT | os.O_WRONLY))
        except OSError as error:
            if error.errno in (30, 13):  # read-only, or not ours
                continue
        raise SystemExit(f"{place} can be written: this is no read-only root")
    os.execve(start["arguments"][0], start["arguments"], start["environment"])


# The emulators --------------------------------------------------------------------------------


def request(method: str, url: str, body: bytes | None = None, kind: str = "application/json") -> bytes:
    asked = urllib.request.Request(url, data=body, method=method, headers={"Content-Type": kind})
    with urllib.request.urlopen(asked, timeout=30) as answer:
        return answer.read()


def call(method: str, url: str, message: object = None) -> Any:
    body = None if message is None else json.dumps(message).encode()
    return json.loads(request(method, url, body) or b"{}")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextlib.contextmanager
def server(command: list[str], url: str) -> Iterator[None]:
    """A server that ends with its whole group (the emulator is a script that starts Java)."""
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        wait(f"{command[0]} answers", lambda: answers(url))
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def answers(url: str) -> bool:
    try:
        request("GET", url)
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
    return True


def wait(what: str, done: Any, patience: float = PATIENCE) -> Any:
    end = time.monotonic() + patience
    while time.monotonic() < end:
        found = done()
        if found:
            return found
        time.sleep(0.05)
    raise Failed(f"{what}: not within {patience} s")


class Cloud:
    """Pub/Sub and Cloud Storage, as a shop has set them up."""

    def __init__(self, pubsub: int, storage: int) -> None:
        self.pubsub, self.storage = f"127.0.0.1:{pubsub}", f"http://127.0.0.1:{storage}"
        self.api = f"http://{self.pubsub}/v1/projects/{PROJECT}"
        for name in (JOBS, RESULTS, "cutout-dead-letters"):
            call("PUT", f"{self.api}/topics/{name}", {})
            call("PUT", f"{self.api}/subscriptions/{name}", {"topic": f"projects/{PROJECT}/topics/{name}"})
        call("POST", f"{self.storage}/storage/v1/b", {"name": BUCKET})

    def environment(self, port: int) -> dict[str, str]:
        return {
            "CUTOUT_INGRESS": "pubsub",
            "GOOGLE_CLOUD_PROJECT": PROJECT,
            "STORAGE_BUCKET": BUCKET,
            "PUBSUB_EMULATOR_HOST": self.pubsub,
            "STORAGE_EMULATOR_HOST": self.storage,
            "PORT": str(port),
        }

    def upload(self, name: str, photo: bytes) -> None:
        url = f"{self.storage}/upload/storage/v1/b/{BUCKET}/o?uploadType=media&name={name}"
        request("POST", url, photo, "image/jpeg")

    def download(self, name: str) -> bytes:
        return request("GET", f"{self.storage}/storage/v1/b/{BUCKET}/o/{name}?alt=media")

    def publish(self, job: dict[str, Any]) -> None:
        data = base64.b64encode(json.dumps(job).encode()).decode()
        call("POST", f"{self.api}/topics/{JOBS}:publish", {"messages": [{"data": data}]})

    def result(self) -> dict[str, Any]:
        def pulled() -> Any:
            url = f"{self.api}/subscriptions/{RESULTS}:pull"
            got = call("POST", url, {"maxMessages": 1, "returnImmediately": True})
            return got.get("receivedMessages")

        (message,) = wait("a result", pulled)
        acks = {"ackIds": [message["ackId"]]}
        call("POST", f"{self.api}/subscriptions/{RESULTS}:acknowledge", acks)
        return json.loads(base64.b64decode(message["message"]["data"]))


@contextlib.contextmanager
def cloud() -> Iterator[Cloud]:
    pubsub, storage = free_port(), free_port()
    with server(
        [str(BIN / "pubsub-emulator"), "--host=127.0.0.1", f"--port={pubsub}"], f"http://127.0.0.1:{pubsub}/"
    ), server(
        [
            *(str(BIN / "fake-gcs-server"), "-scheme", "http", "-host", "127.0.0.1", "-port", str(storage)),
            *("-backend", "memory", "-public-host", f"127.0.0.1:{storage}"),
            *("-external-url", f"http://127.0.0.1:{storage}"),
        ],
        f"http://127.0.0.1:{storage}/",
    ):
        yield Cloud(pubsub, storage)


# What is tested --------------------------------------------------------------------------------


class Worker:
    """A worker out of the image."""

    def __init__(self, image: Mounted | Container, environment: dict[str, str]) -> None:
        self.port = int(environment["PORT"])
        self.log = tempfile.TemporaryFile(mode="w+", prefix="cutout-image-")
        self.started = time.monotonic()
        self.process = subprocess.Popen(image.command(environment, []), stdout=self.log, stderr=self.log)

    def ready(self) -> float:
        """Seconds until it is."""
        wait("the worker is ready", self.is_ready)
        return time.monotonic() - self.started

    def is_ready(self) -> bool:
        if self.process.poll() is not None:
            raise Failed(f"the worker ended with exit code {self.process.returncode}")
        try:
            request("GET", self.url("/startup"))
        except OSError:
            return False
        return True

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def in_flight(self) -> bool:
        metrics = request("GET", self.url("/metrics")).decode()
        return any(float(value) > 0 for value in re.findall(r"^cutout_jobs_in_flight(?:{.*})? (\S+)", metrics, re.M))

    def stop(self) -> float:
        """Sends SIGTERM; seconds until it ended, with 0."""
        asked = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        try:
            code = self.process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            raise Failed("the worker did not end within 10 s of SIGTERM") from None
        if code != 0:
            raise Failed(f"the worker ended with exit code {code} after SIGTERM")
        return time.monotonic() - asked

    def told(self) -> str:
        self.log.seek(0)
        return self.log.read()

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


@contextlib.contextmanager
def worker(image: Mounted | Container, environment: dict[str, str]) -> Iterator[Worker]:
    running = Worker(image, environment)
    try:
        yield running
    except (Failed, OSError):
        print(running.told())
        raise
    finally:
        running.kill()


def healthy(image: Mounted | Container, environment: dict[str, str]) -> bool:
    """What the image's health check says, run beside the worker."""
    arguments = image.health_check["Test"][2:]
    asked = subprocess.run(image.command(environment, arguments), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return asked.returncode == 0


def test_cpu(image: Mounted | Container) -> None:
    photo = (ROOT / "samples/cat.jpg").read_bytes()
    with cloud() as shop:
        environment = shop.environment(free_port())
        with worker(image, environment) as running:
            say(f"ready after {running.ready():.1f} s")
            if not healthy(image, environment):
                raise Failed("the image's health check does not find the worker healthy")
            shop.upload("cat.jpg", photo)
            shop.publish({"version": 1, "job_id": "one", "source": f"gs://{BUCKET}/cat.jpg"})
            result = shop.result()
            if result["status"] != "done" or result["job_id"] != "one":
                raise Failed(f"the job was not done: {result}")
            png = shop.download("cat.cutout.png")
            if not png.startswith(b"\x89PNG\r\n\x1a\n") or len(png) != result["outputs"][0]["bytes"]:
                raise Failed(f"the output is not the PNG of the result: {result}")
            model = result["model"]
            say(
                f"cut out: {len(png)} bytes of PNG, {result['timings_ms']['total']} ms, "
                f"{model['name']} on {model['provider']} in {model['precision']}"
            )
            shop.publish({"version": 1, "job_id": "two", "source": f"gs://{BUCKET}/cat.jpg",
                          "destination": f"gs://{BUCKET}/two.png"})
            wait("the second job is in work", running.in_flight)
            say(f"SIGTERM in the middle of a job: exit code 0 after {running.stop():.2f} s")
            told = running.told()
            if "drained; the worker ends" not in told:
                raise Failed(f"the worker did not say that it drained:\n{told}")
        if healthy(image, environment):
            raise Failed("the image's health check finds a worker healthy that is gone")
        given_back = "giving the rest back to the queue" in told
        with worker(image, {**environment, "CUTOUT_PROVIDER": "cpu"}) as running:
            say(f"with ONNX Runtime's own kernels: ready after {running.ready():.1f} s")
            result = shop.result()
            if (result["job_id"], result["status"]) != ("two", "done"):
                raise Failed(f"the job in work was lost: {result}")
            # A slow machine does not finish it within the drain's time.
            say("the job in work was " + ("given back, and done by this one" if given_back else "finished first"))
            running.stop()


def test_cuda(image: Mounted | Container) -> None:
    if Path("/dev/nvidiactl").exists():
        raise Failed("this machine has a card: what happens without one cannot be tested here")
    with cloud() as shop, worker(image, shop.environment(free_port())) as running:
        code = running.process.wait(timeout=PATIENCE)
        told = running.told()
        if code == 0:
            raise Failed("the worker ended with exit code 0 where it has no card")
        missing = re.search(r"cannot open shared object file[^\n]*|lib(?!cuda\.so)[\w-]+\.so[.\d]*: [^\n]*", told)
        if missing or not re.search(r"CUDA (driver|failure)|libcuda\.so|no CUDA-capable device", told):
            raise Failed(f"the worker should name the driver and no library:\n{told}")
        reason = re.search(r"[^\"\n]*CUDA (?:driver|failure)[^\"\n]*", told)
        say(f"without a card it ends with exit code {code}: {reason.group().strip() if reason else told[-300:]}")


def test_contents(image: Mounted | Container) -> None:
    config = image.config
    expected = {"User": "65532:65532", "StopSignal": "SIGTERM", "Entrypoint": ["/usr/local/bin/cutout"], "Cmd": ["worker"]}
    for key, value in expected.items():
        if config.get(key) != value:
            raise Failed(f"the image's {key} is {config.get(key)}, not {value}")
    if image.health_check.get("Test") != ["CMD", "/usr/local/bin/cutout", "health"]:
        raise Failed(f"the image's health check is {image.health_check}")
    labels = config.get("Labels", {})
    for label in ("version", "revision", "title", "licenses"):
        if labels.get(f"org.opencontainers.image.{label}", "unknown") == "unknown":
            raise Failed(f"the image has no label {label}")
    if isinstance(image, Mounted):
        for pattern in ("usr/bin/python*", "usr/local/bin/python*", "usr/local/lib/python*", "usr/lib/python*"):
            if any(image.root.glob(pattern)):
                raise Failed(f"the image holds Python: {pattern}")
        shells = [name for name in ("bin/sh", "bin/bash") if (image.root / name).exists()]
        say(f"no Python; {'shells: ' + ' '.join(shells) if shells else 'no shell'}")


def output(command: list[str]) -> str:
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def main(builder: str, tag: str, provider: str) -> int:
    image = Mounted(tag) if builder == "buildah" else Container(builder, tag)
    try:
        test_contents(image)
        (test_cuda if provider == "cuda" else test_cpu)(image)
    except (Failed, OSError) as error:
        say(f"FAILED: {error}")
        return 1
    finally:
        image.remove()
    say(f"{tag}: all is well")
    return 0


if __name__ == "__main__":
    if sys.argv[1:2] == ["--inside"]:
        inside(json.loads(sys.argv[2]))
    sys.exit(main(*sys.argv[1:4]))
