#!/usr/bin/env python3
"""Fetches what cutout needs beside cargo into the checkout's `.cache`, verified.

    setup.py runtime      ONNX Runtime and the default model: what running the worker needs
    setup.py simulation   simpy: what bench/simulate.py needs, on any machine
    setup.py terraform    what the checks of the Terraform code and of the manifests need, on any machine
    setup.py monitoring   Grafana's types: what the check of the dashboard needs, on any machine
    setup.py image        what the scripts around the container image need, on any machine
    setup.py image-test   those, and the emulators that running an image takes
    setup.py test         those, the emulators, Chromium and the cargo tools: what `make test` needs
    setup.py verify       checks what is there, fetches nothing

Versions and digests are in provision/pins.py, those of Chromium and what drives it in
tests/page/package-lock.json. Running it again fetches nothing. It needs Python 3.9
and the registries' own clients, and says all at once which tools are missing. Prometheus and
its promtool are the exception: where they cannot be had, set-up says what goes unchecked and succeeds.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

if sys.version_info < (3, 9):
    sys.exit("setup: FAILED: Python 3.9 or newer is needed; this one is " + sys.version.split()[0])

from provision import browser, files, pins, tools
from provision.files import SetupError

ROOT = Path(__file__).resolve().parent.parent
CACHE = ROOT / ".cache"
PAGE = ROOT / "tests" / "page"


def say(line: str) -> None:
    print(f"setup: {line}", flush=True)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("command", choices=[*pins.GROUPS, "verify"])
    command = parser.parse_args(arguments).command
    try:
        if command == "verify":
            return verify()
        provide(command)
    except (SetupError, OSError) as error:
        say(f"FAILED: {error}")
        return 1
    return 0


def provide(group: str) -> None:
    """Brings the cache to what `group` needs; all or an error that says what to do."""
    wanted = pinned_files(group)
    absent = [file for file in wanted if not files.is_placed(file, CACHE)]
    browserless = group == "test" and not browser.is_installed(CACHE, PAGE)
    clients = {file.source.client for file in absent if not file.optional}
    clients |= {"npm"} if browserless else set()
    missing = tools.missing(group, clients, ROOT)
    if missing:
        lines = [f"  {tool.name}: {tool.remedy}" for tool in missing]
        raise SetupError("missing tools, get them and run this again:\n" + "\n".join(lines))

    unbuilt = [tool for tool in pins.cargo_tools(group) if not has_cargo_tool(tool)]
    wrapper = group in ("test", "image-test") and not has_emulator_wrapper()
    if absent or unbuilt or wrapper or browserless:
        with files.exclusive(CACHE, say):
            for file in absent:
                place(file)
            if wrapper:
                place_emulator_wrapper()
            if browserless and not browser.is_installed(CACHE, PAGE):
                browser.install(CACHE, PAGE, say)
            for tool in unbuilt:
                # Another set-up may have built it while this one waited for the lock.
                if not has_cargo_tool(tool):
                    say(f"building {tool.name} {tool.version} (once; takes some minutes)")
                    tools.build_cargo_tool(tool, CACHE, ROOT)
    lacking = [file for file in absent if not files.is_placed(file, CACHE) and not elsewhere(file)]
    for file in lacking:
        say(f"WITHOUT {file.path}: {file.optional}")
    say(f"{group}: everything {'needed ' if lacking else ''}is in place")


def place(file: pins.Artefact) -> None:
    """Places a file; one that is optional may be impossible to get, which is said and survived."""
    if elsewhere(file):
        say(f"{Path(file.path).name} on PATH is used")
        return
    try:
        files.place(file, CACHE, files.fetch_with_client, say)
    except (SetupError, OSError) as error:
        if not file.optional:
            raise
        say(f"could not get {file.path}: {error}")


def elsewhere(file: pins.Artefact) -> bool:
    """Whether a program that is optional here is on PATH, outside the cache (make puts that first)."""
    found = shutil.which(Path(file.path).name) if file.optional else None
    return found is not None and CACHE.resolve() not in Path(found).resolve().parents


def verify() -> int:
    """Reports each pinned file as right or wrong without changing anything."""
    wrong = 0
    for file in pinned_files("test"):
        path = CACHE / file.path
        if files.is_placed(file, CACHE):
            say(f"ok       {file.path}")
        elif not path.is_file() and file.optional:
            say(f"without  {file.path}: {file.optional}")
        elif not path.is_file():
            wrong += 1
            say(f"missing  {file.path}")
        else:
            wrong += 1
            say(f"WRONG    {file.path}: expected sha256 {file.sha256}, got {files.sha256(path)}")
    fault = browser.wrong(CACHE, PAGE)
    wrong += 1 if fault else 0
    say(f"WRONG    page (Chromium): {fault}" if fault else "ok       page (Chromium)")
    for tool in pins.cargo_tools("test"):
        if not has_cargo_tool(tool):
            wrong += 1
            say(f"missing  {tool.name} {tool.version} or newer")
    if wrong:
        say(f"{wrong} wrong or missing: `setup.py test` fetches them again")
    return 1 if wrong else 0


def pinned_files(group: str) -> list[pins.Artefact]:
    machine = pins.machine()
    wanted = pins.artefacts(group, machine)
    if wanted is None:
        raise SetupError(
            f"no pinned downloads for {' '.join(machine)}, only for "
            f"{', '.join(pins.supported_machines())}: use one of those (a Linux container will do)"
        )
    return wanted


def has_cargo_tool(tool: pins.CargoTool) -> bool:
    """Whether the subcommand is in the cache or on PATH, in the pinned version or a newer one."""
    places = (CACHE / "bin", None)
    return any(tools.at_least(tools.cargo_tool_version(tool, at), tool.version) for at in places)


def has_emulator_wrapper() -> bool:
    placed = CACHE / "bin" / "pubsub-emulator"
    return placed.is_file() and placed.read_bytes() == emulator_wrapper().read_bytes()


def place_emulator_wrapper() -> None:
    target = CACHE / "bin" / "pubsub-emulator"
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(".pubsub-emulator")
    shutil.copyfile(emulator_wrapper(), temporary)
    temporary.chmod(0o755)
    temporary.replace(target)


def emulator_wrapper() -> Path:
    return ROOT / "scripts" / "pubsub-emulator"


if __name__ == "__main__":
    sys.exit(main())
