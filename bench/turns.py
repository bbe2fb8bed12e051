"""What the benchmarks of pixel work have in common: both sides take turns on the same bytes, each turn
in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
WIDTH, HEIGHT = 4032, 3024
MIB = 1 << 20


def enlarged(photo: str, mask: str) -> np.ndarray:
    """A sample with a sensor's noise, and with a reference mask as its alpha."""
    with Image.open(ROOT / "samples" / photo) as picture:
        rgb = np.asarray(picture.convert("RGB").resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC))
    with Image.open(ROOT / "tests" / "fixtures" / "masks" / mask) as picture:
        alpha = np.asarray(picture.convert("L").resize((WIDTH, HEIGHT), Image.Resampling.BILINEAR))
    noise = np.random.default_rng(1).integers(0, 8, rgb.shape, np.uint8)
    return np.dstack([np.minimum(rgb, 247) + noise, alpha])


def program(name: str) -> Path:
    """The benchmark's program, built if it is not there and not named by NAME_BIN."""
    if named := os.environ.get(f"{name.upper()}_BIN"):
        return Path(named).resolve()
    command = ["cargo", "bench", "--locked", "--bench", name, "--no-run", "--message-format=json"]
    built = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    for line in built.stdout.splitlines():
        message = json.loads(line)
        if message.get("target", {}).get("name") == name and message.get("executable"):
            return Path(message["executable"])
    sys.exit(f"{name}: cargo built no benchmark")


def peak() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("the kernel tells no peak")


def turn(command: list[object]) -> dict:
    run = subprocess.run([str(part) for part in command], check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(run.stdout)
