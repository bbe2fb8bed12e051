"""The programs that set-up, the build and the tests call: found, or named with how to get them."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Callable

from .files import SetupError
from .pins import CargoTool

Run = Callable[[list[str]], "str | None"]
"""Runs a command and returns what it printed, or None when it is missing or fails."""


@dataclass(frozen=True)
class Missing:
    """A tool that is absent or too old, and how to get it."""

    name: str
    remedy: str


def run(command: list[str]) -> str | None:
    """Runs a command quietly; its output, or None when it is missing or fails."""
    try:
        result = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return result.stdout if result.returncode == 0 else None


def missing(group: str, clients: set[str], root: Path, run: Run = run) -> list[Missing]:
    """Every tool that `group` needs and this machine lacks, all at once.

    `clients` are the registry clients that are needed to fetch what is not yet in the cache; the
    Rust version asked for is the one in the manifest under `root`.
    """
    found = []

    def need(name: str, command: list[str], remedy: str) -> None:
        if run(command) is None:
            found.append(Missing(name, remedy))

    if "pip" in clients:
        need(
            "pip",
            [sys.executable, "-m", "pip", "--version"],
            f"`{sys.executable} -m ensurepip --user`, or on Debian `apt-get install python3-pip`",
        )
    if "npm" in clients:
        need("npm", ["npm", "--version"], "Node.js from nodejs.org, or `apt-get install npm`")
    if group in ("simulation", "terraform", "monitoring", "image"):
        return found  # Python alone
    if group == "image-test":
        return found + _missing_emulator(root, run)
    need("C compiler (cc)", ["cc", "--version"], "on Debian `apt-get install gcc libc6-dev`")
    found += _missing_rust(root, run)
    if group == "test":
        need("rustfmt", ["cargo", "fmt", "--version"], "`rustup component add rustfmt`")
        need("clippy", ["cargo", "clippy", "--version"], "`rustup component add clippy`")
        found += _missing_node(root, run)
        found += _missing_emulator(root, run)
    return found


def cargo_tool_version(tool: CargoTool, folder: Path | None, run: Run = run) -> str | None:
    """The version of an installed cargo subcommand in `folder`, or on PATH when that is None."""
    program = str(folder / tool.name) if folder else shutil.which(tool.name)
    return version_in(run([program, "--version"])) if program else None


def build_cargo_tool(tool: CargoTool, cache: Path, root: Path) -> None:
    """Builds a cargo subcommand from crates.io into the cache's `bin`.

    cargo checks the sources against the digests of the tool's own lock file.
    """
    command = ["cargo", "install", tool.name, "--locked", "--version", tool.version]
    command += ["--root", str(cache), "--target-dir", str(cache / "build" / tool.name)]
    # These are run for seconds and built once per checkout: an unoptimised build takes a third of
    # the time of a release one.
    quick = ["opt-level=0", "lto='off'", "codegen-units=256", "debug=false", "strip='symbols'"]
    for setting in quick:
        command += ["--config", f"profile.release.{setting}"]
    result = subprocess.run(command, cwd=root)
    if result.returncode != 0:
        raise SetupError(f"building {tool.name} {tool.version} failed: {' '.join(command)}")
    shutil.rmtree(cache / "build" / tool.name, ignore_errors=True)


def version_in(text: str | None) -> str | None:
    """The first `1.2.3` in a text."""
    match = re.search(r"\d+\.\d+\.\d+", text or "")
    return match.group() if match else None


def at_least(version: str | None, floor: str) -> bool:
    """Whether a dotted version is at or above another."""
    return version is not None and _numbers(version) >= _numbers(floor)


def _numbers(version: str) -> list[int]:
    return [int(part) for part in version.split(".")]


def _missing_emulator(root: Path, run: Run) -> list[Missing]:
    home = os.environ.get("JAVA_HOME")
    java = os.path.join(home, "bin", "java") if home else "java"
    emulator = str(root / "scripts" / "pubsub-emulator")
    remedies = {
        ("java", java, "-version"): "on Debian `apt-get install default-jre-headless`",
        ("Pub/Sub emulator", emulator, "--where"): (
            "`gcloud components install pubsub-emulator`, or on Debian with Google's package source "
            "`apt-get install google-cloud-cli-pubsub-emulator`; CLOUDSDK_ROOT or "
            "PUBSUB_EMULATOR_BIN may name where it is"
        ),
    }
    return [
        Missing(name, remedy) for (name, *command), remedy in remedies.items() if run(command) is None
    ]


def _missing_node(root: Path, run: Run) -> list[Missing]:
    manifest = (root / "tests" / "page" / "package.json").read_text(encoding="utf-8")
    wanted = json.loads(manifest)["engines"]["node"].removeprefix(">=")
    actual = version_in(run(["node", "--version"]))
    if at_least(actual, wanted):
        return []
    remedy = f"Node.js {wanted} or newer from nodejs.org; it runs the test of the page"
    return [Missing(f"node {wanted} (found {actual or 'none'})", remedy)]


def _missing_rust(root: Path, run: Run) -> list[Missing]:
    manifest = (root / "Cargo.toml").read_text(encoding="utf-8")
    floor = re.search(r'^rust-version = "([\d.]+)"', manifest, re.MULTILINE)
    wanted = floor.group(1) if floor else "0"
    remedy = f"Rust {wanted} or newer: rustup from rustup.rs, then `rustup update stable`"
    if run(["cargo", "--version"]) is None:
        return [Missing("cargo", remedy)]
    actual = version_in(run(["rustc", "--version"]))
    if not at_least(actual, wanted):
        return [Missing(f"rustc {wanted} (found {actual or 'none'})", remedy)]
    return []
