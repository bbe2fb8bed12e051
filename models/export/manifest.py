"""Manifests, which tell the worker how to use a graph: `models/*.toml` and those written here.

A manifest in `models/` describes a network whose graph is yet to be made. The one that is written
beside the graph has its size and digest, and no `origin` table: the worker needs nothing more.
"""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

from .checkpoints import MANIFESTS, digest


def template(name: str) -> dict[str, Any]:
    """The manifest of a network that this repository knows."""
    return tomllib.loads((MANIFESTS / f"{name}.toml").read_text("utf-8"))


def complete(manifest: dict[str, Any], graph: Path) -> dict[str, Any]:
    """The manifest with what only the finished graph tells."""
    known = {key: value for key, value in manifest.items() if key != "origin"}
    known |= {
        "file": graph.name,
        "bytes": graph.stat().st_size,
        "sha256": digest(graph, "sha256"),
    }
    return known


ORDER = ("name", "description", "file", "bytes", "sha256", "licence", "provenance")


def render(manifest: dict[str, Any]) -> str:
    """TOML: the plain keys in the order of `ORDER`, then the tables."""
    plain = {k: v for k, v in manifest.items() if not isinstance(v, dict)}
    lines = [f"{key} = {value(plain.pop(key))}" for key in ORDER if key in plain]
    lines += [f"{key} = {value(rest)}" for key, rest in plain.items()]
    for name, table in manifest.items():
        if isinstance(table, dict):
            lines += ["", f"[{name}]", *(f"{key} = {value(v)}" for key, v in table.items())]
    return "\n".join(lines) + "\n"


def value(item: Any) -> str:
    # JSON's strings, numbers, booleans and lists of them are TOML too.
    return json.dumps(item, ensure_ascii=False)


def write(manifest: dict[str, Any], graph: Path) -> Path:
    """Writes the completed manifest beside the graph: `x.onnx` gets `x.toml`."""
    path = graph.with_suffix(".toml")
    path.write_text(render(complete(manifest, graph)), "utf-8")
    return path
