"""InSPyReNet's published checkpoints, and proof that a file is one of them."""

from __future__ import annotations

import hashlib
import tomllib
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

MANIFESTS = Path(__file__).resolve().parent.parent
"""The folder of the manifests, which say what is known of each checkpoint."""

MODES = ("base", "fast", "base-nightly")
"""The modes of `transparent_background.Remover`."""

BASE_SIDES = {"base": 1024, "base-nightly": 1024, "fast": 384}
"""Pixels of the square that a mode was trained at (`base_size` in its config.yaml): the side of a
static resize, and the grid on which the network gathers context whatever the photo's size."""


class ExportError(Exception):
    """Something that the person who runs the exporter can put right; the message says how."""


@dataclass(frozen=True)
class Checkpoint:
    """What a manifest says about the checkpoint that its network is made from."""

    mode: str
    url: str
    file: str
    md5: str | None
    """Lower-case hex; `None` where the publisher gives none because the file changes."""


def published(mode: str) -> Checkpoint:
    """The checkpoint of `mode`, from the `[origin]` table of its manifest."""
    manifest = tomllib.loads((MANIFESTS / f"inspyrenet-{mode}.toml").read_text("utf-8"))
    table = manifest["origin"]
    return Checkpoint(mode, table["url"], table["file"], table.get("md5"))


def digest(path: Path, algorithm: str) -> str:
    """The file's digest in lower-case hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()


def verify(path: Path, expected: str | None) -> str:
    """Checks the file's MD5 against `expected` where one is known; gives the MD5 found."""
    if not path.is_file():
        raise ExportError(
            f"there is no checkpoint {path}: name an existing file, or fetch it with --download"
        )
    found = digest(path, "md5")
    if expected is not None and found != expected:
        raise ExportError(
            f"{path} has md5 {found}, the published checkpoint has {expected}: the download is "
            "broken or the file is another one (--mode says which is expected); to export weights "
            "of your own, give their digest with --md5"
        )
    return found


def download(checkpoint: Checkpoint, folder: Path) -> Path:
    """Fetches the checkpoint into `folder` unless the right file is there already."""
    target = folder / checkpoint.file
    if target.is_file() and checkpoint.md5 is not None and digest(target, "md5") == checkpoint.md5:
        return target
    folder.mkdir(parents=True, exist_ok=True)
    # Renamed when complete, so that an interrupted download is never taken for a checkpoint.
    partial = target.with_name(target.name + ".part")
    try:
        with (
            urllib.request.urlopen(checkpoint.url, timeout=60) as answer,
            partial.open("wb") as out,
        ):
            while chunk := answer.read(1 << 20):
                out.write(chunk)
    except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
        partial.unlink(missing_ok=True)
        raise ExportError(
            f"cannot fetch {checkpoint.url}: {error}; fetch it on a machine that reaches that "
            f"host, and export with --checkpoint {checkpoint.file}"
        ) from error
    verify(partial, checkpoint.md5)
    partial.replace(target)
    return target
