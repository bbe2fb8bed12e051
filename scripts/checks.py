"""What the checks of folders have in common: how they are called, and what they print."""

from __future__ import annotations

from pathlib import Path
from typing import Callable


def main(
    arguments: list[str], usage: str | None, faults: Callable[[Path], list[str]], name: str, well: str
) -> int:
    """Checks the one folder that is named, and prints all that is wrong with it, or `well`.

    The exit status: 1 when something is, 2 when no folder is named.
    """
    if len(arguments) != 1:
        print(usage)
        return 2
    found = faults(Path(arguments[0]))
    for fault in found:
        print(fault)
    print(f"{name}: {len(found)} wrong" if found else f"{name}: {well}")
    return 1 if found else 0
