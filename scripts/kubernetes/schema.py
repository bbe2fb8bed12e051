"""Holds objects to the schemas of their kinds (schema.json, made by extract_schema.py)."""

from __future__ import annotations

import json
import sys
from functools import lru_cache
from pathlib import Path
from typing import Any, Callable

from provision.pins import JSON_SCHEMA

SCHEMA = Path(__file__).with_name("schema.json")

_wheel = Path(__file__).resolve().parents[2] / ".cache" / JSON_SCHEMA.path
if not _wheel.is_file():
    sys.exit(f"{_wheel.name} is missing: run `python3 scripts/setup.py terraform`")
if str(_wheel) not in sys.path:
    sys.path.insert(0, str(_wheel))

import fastjsonschema  # noqa: E402


def fault(thing: Any) -> str | None:
    """What is wrong with an object, the first of it; None when nothing is."""
    if not isinstance(thing, dict) or not isinstance(thing.get("kind"), str):
        return "an object without a kind"
    kind = thing["kind"]
    metadata = thing.get("metadata")
    name = metadata.get("name") if isinstance(metadata, dict) else None
    check = _checks().get(kind)
    if check is None:
        return f"{kind} {name}: no such kind in schema.json: misspelt, or to be added to extract_schema.py"
    try:
        _compiled(check)(thing)
    except fastjsonschema.JsonSchemaValueException as error:
        return f"{kind} {name}: {error.message.replace('data', kind, 1)}{_known(error)}"
    return None


def _known(error: Any) -> str:
    """What may stand where something unknown does."""
    if error.rule != "additionalProperties":
        return ""
    unknown = sorted(set(error.value) - set(error.definition["properties"]))
    import difflib

    near = [difflib.get_close_matches(name, error.definition["properties"], 1) for name in unknown]
    return "".join(f"; {name} may be {close[0]}" for name, close in zip(unknown, near) if close)


@lru_cache(maxsize=None)
def _checks() -> dict[str, str]:
    """The reference to each kind's definition."""
    described = json.loads(SCHEMA.read_text(encoding="utf-8"))
    return {kind: reference["$ref"] for kind, reference in described["kinds"].items()}


@lru_cache(maxsize=None)
def _compiled(reference: str) -> Callable[[Any], Any]:
    definitions = json.loads(SCHEMA.read_text(encoding="utf-8"))["$defs"]
    return fastjsonschema.compile({"$ref": reference, "$defs": definitions})
