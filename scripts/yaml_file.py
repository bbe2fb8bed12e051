"""YAML, read by ruamel.yaml out of its pinned wheel."""

from __future__ import annotations

import sys
import types
from pathlib import Path
from typing import Any

from provision.pins import YAML

_wheel = Path(__file__).resolve().parent.parent / ".cache" / YAML.path
if not _wheel.is_file():
    sys.exit(f"{_wheel.name} is missing: run `python3 scripts/setup.py terraform`")
# `ruamel` is a package without a file of its own, which Python does not find inside of a wheel.
_ruamel = sys.modules.setdefault("ruamel", types.ModuleType("ruamel"))
_ruamel.__path__ = [f"{_wheel}/ruamel"]

from ruamel.yaml import YAML as _Reader  # noqa: E402
from ruamel.yaml.error import YAMLError  # noqa: E402

__all__ = ["YAMLError", "documents"]


def documents(text: str) -> list[Any]:
    """What a text says, document by document, without the empty ones. Raises YAMLError."""
    return [one for one in _Reader(typ="safe", pure=True).load_all(text) if one is not None]
