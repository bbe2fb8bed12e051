"""What must be there before anything is measured: Python environments, networks, photos."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
CACHE = ROOT / ".cache"
HERE = CACHE / "peers"
REQUIREMENTS = ROOT / "bench" / "requirements.txt"
MODEL = CACHE / "models" / "isnet-medium.onnx"

SIZES = {
    # 1 to 12 MP, and the 12 MP of a phone either way up.
    "mixed": "1280x800,1600x1200,2048x1536,3264x2448,4032x3024,3024x4032",
    "12mp": "4032x3024,3024x4032",
    # Large enough to be a photo, small enough that decoding it is not what is measured.
    "cold": "1600x1200",
}

CHECKPOINT = """
import sys; from pathlib import Path
from models.export import synthetic
import torch
torch.save(synthetic.weights(7, sys.argv[1], sorted(Path("samples").glob("*.jpg"))), sys.argv[2])
"""
"""Weights made from a seed, as for the parity fixture: the published ones are a download away, and
what they hold makes no difference to the time."""


def say(line: str) -> None:
    print(f"peers: {line}", file=sys.stderr, flush=True)


def program() -> Path:
    path = Path(os.environ.get("CUTOUT_BIN", ROOT / "target" / "release" / "cutout")).resolve()
    if not path.is_file():
        sys.exit(f"peers: no program at {path}: cargo build --release --locked, or set CUTOUT_BIN")
    return path


def peers_python() -> Path:
    """The Python that has rembg; its environment is made first if it is not there."""
    environment = CACHE / "venv-peers"
    marker = environment / "requirements.txt"
    # The copied list marks a finished environment: an interrupted or outdated one is made anew.
    if not marker.is_file() or marker.read_bytes() != REQUIREMENTS.read_bytes():
        say(f"making {environment.relative_to(ROOT)} (rembg and Matplotlib: 700 MB)")
        run(os.environ.get("PYTHON", sys.executable), "-m", "venv", "--clear", environment)
        run(
            environment / "bin" / "pip", "install", "--quiet", "--disable-pip-version-check",
            "--no-deps", "-r", REQUIREMENTS,
        )  # fmt: skip
        shutil.copy(REQUIREMENTS, marker)
    return environment / "bin" / "python"


def torch_python() -> Path:
    """The Python that has transparent-background: the exporter's."""
    made = subprocess.run(
        [ROOT / "models" / "export" / "environment.sh"],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    return ROOT / made.stdout.strip() / "bin" / "python"


def inspyrenet(mode: str) -> tuple[Path, tuple[str, ...]]:
    """A checkpoint for transparent-background, and cutout's flags for the same exported."""
    # Networks are looked for in `models` of the home folder, and so is the runtime in its `lib`.
    checkpoint = HERE / "models" / f"inspyrenet-{mode}.pth"
    manifest = checkpoint.with_suffix(".toml")
    library = CACHE / "lib" / "libonnxruntime.so"
    flags = "--model", str(manifest), "--home", str(HERE), "--ort-lib", str(library)
    if not manifest.is_file():
        checkpoint.parent.mkdir(parents=True, exist_ok=True)
        python = torch_python()
        say(f"making and exporting a checkpoint of mode {mode} (2 minutes)")
        run(python, "-c", CHECKPOINT, mode, checkpoint)
        digest = hashlib.md5(checkpoint.read_bytes()).hexdigest()
        run(
            python, "-m", "models.export", "--mode", mode, "--checkpoint", checkpoint,
            "--md5", digest, "--out", manifest.with_suffix(".onnx"), "--manifest",
        )  # fmt: skip
    return checkpoint, flags


def photos(name: str, count: int) -> list[Path]:
    """`count` photos of a set of SIZES, made if they are not there."""
    folder = HERE / f"photos-{name}-{count}"
    if not folder.is_dir():
        say(f"making {count} photos: {name}")
        partial = folder.with_suffix(".part")
        shutil.rmtree(partial, ignore_errors=True)
        maker = ROOT / "bench" / "mixed_photos.py"
        run(peers_python(), maker, count, partial, "--sizes", SIZES[name])
        partial.rename(folder)
    found = sorted(folder.iterdir())
    for photo in found:
        photo.read_bytes()  # into the page cache: whoever comes first must not pay for the disk
    return found


def versions(python: Path, *packages: str) -> dict[str, str]:
    """Of cutout, of `python` and of packages in it."""
    code = (
        "import importlib.metadata, platform, sys;"
        "print(platform.python_version(), *map(importlib.metadata.version, sys.argv[1:]))"
    )
    ours = output(program(), "--version").split()[1]
    return dict(
        zip(("cutout", "python", *packages), (ours, *output(python, "-c", code, *packages).split()))
    )


def output(*command: object) -> str:
    return subprocess.run(
        [str(part) for part in command], check=True, stdout=subprocess.PIPE, text=True
    ).stdout


def run(*command: object) -> None:
    # What tools print is for the person at the terminal; standard output is for the tables.
    subprocess.run([str(part) for part in command], check=True, cwd=ROOT, stdout=sys.stderr)
