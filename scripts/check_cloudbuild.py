#!/usr/bin/env python3
"""Checks cloudbuild.yaml without Cloud Build: check_cloudbuild.py [FILE].

1. Every field is one that Cloud Build's API has, of its type and among its values: by Google's own
   description of the API, which set-up takes out of google-api-python-client.
2. Steps have ids, each its own; `waitFor` names steps that stand before; their images have fixed tags.
3. Substitutions of our own begin with `_`, each one is used, and each that is used is declared or
   Cloud Build's; in scripts they are variables, and the names in capitals must be known too.
4. Scripts are right for the shell that their first line names.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, Iterator

sys.path.insert(0, str(Path(__file__).resolve().parent))

from yaml_file import YAMLError, documents

ROOT = Path(__file__).resolve().parent.parent
CACHE = ROOT / ".cache"

# https://cloud.google.com/build/docs/configuring-builds/substitute-variable-values
BUILT_IN = {
    *("PROJECT_ID", "BUILD_ID", "PROJECT_NUMBER", "LOCATION", "TRIGGER_NAME", "COMMIT_SHA", "REVISION_ID"),
    *("SHORT_SHA", "REPO_NAME", "REPO_FULL_NAME", "BRANCH_NAME", "TAG_NAME", "REF_NAME"),
    *("TRIGGER_BUILD_CONFIG_PATH", "SERVICE_ACCOUNT_EMAIL", "SERVICE_ACCOUNT"),
}
# What the shell or the scripts themselves set.
SHELL = {"HOME", "PATH", "PWD"}

_SUBSTITUTION = re.compile(r"(?<!\$)(?:\$\$)*\$(?:\{([A-Z_][A-Z0-9_]*)\}|([A-Z_][A-Z0-9_]*))")
_VARIABLE = re.compile(r"\$\{?([A-Z_][A-Z0-9_]*)\b")


def main(arguments: list[str]) -> int:
    file = Path(arguments[0]) if arguments else ROOT / "cloudbuild.yaml"
    wrong = check(file.read_text("utf-8"))
    for line in wrong:
        print(f"{file.name}: {line}")
    return 1 if wrong else 0


def check(text: str) -> list[str]:
    """Everything that is wrong, a line each."""
    try:
        build = load(text)
    except YAMLError as error:
        return [f"is no YAML: {error}"]
    if not isinstance(build, dict):
        return ["is no table"]
    schemas = json.loads((CACHE / "schemas/cloudbuild.v1.json").read_text("utf-8"))["schemas"]
    wrong = list(against({"$ref": "Build"}, build, "build", schemas))
    # What is wrong in shape would only trip the rest.
    return wrong or [*of_steps(build), *of_substitutions(build), *of_scripts(build)]


def load(text: str) -> Any:
    """What the file says. Raises YAMLError."""
    found = documents(text)
    return found[0] if len(found) == 1 else None


def against(schema: dict[str, Any], value: Any, at: str, schemas: dict[str, Any]) -> Iterator[str]:
    """Holds a value to the description of a message."""
    if schema.get("readOnly"):
        yield f"{at} is for Cloud Build to set"
    while "$ref" in schema:
        schema = schemas[schema["$ref"]]
    kind = schema["type"]
    python = {"object": dict, "array": list, "string": str, "boolean": bool, "integer": int}
    # 64 bits are text in JSON; Cloud Build takes numbers too.
    fits = isinstance(value, python[kind]) and not (kind == "integer" and isinstance(value, bool))
    if kind == "string" and schema.get("format") == "int64":
        fits = isinstance(value, int) and not isinstance(value, bool) or str(value).isdigit()
    if not fits:
        yield f"{at} should be of type {kind}, and is {value!r}"
        return
    if "enum" in schema and value not in schema["enum"]:
        yield f"{at} is {value!r}, not one of {', '.join(schema['enum'])}"
    if schema.get("format") == "google-duration" and not re.fullmatch(r"\d+(\.\d{1,9})?s", value):
        yield f"{at} is {value!r}: a duration is a number of seconds with an s"
    if kind == "array":
        for index, item in enumerate(value):
            yield from against(schema["items"], item, f"{at}[{index}]", schemas)
    if kind == "object":
        known = schema.get("properties", {})
        for name, item in value.items():
            if name in known:
                yield from against(known[name], item, f"{at}.{name}", schemas)
            elif "additionalProperties" in schema:
                yield from against(schema["additionalProperties"], item, f"{at}.{name}", schemas)
            else:
                yield f"{at}.{name} is no field that Cloud Build has"


def of_steps(build: dict[str, Any]) -> Iterator[str]:
    before: set[str] = set()
    if not build.get("steps"):
        yield "there are no steps"
    for index, step in enumerate(build.get("steps", [])):
        name = step.get("id", "")
        if not name:
            yield f"step {index} has no id"
        if name in before:
            yield f"two steps are called {name}"
        image = step.get("name", "")
        if not image:
            yield f"step {name or index} names no image"
        elif not re.search(r":\d+\.\d+\.\d+(-[\w.-]+)?$|@sha256:[0-9a-f]{64}$", image):
            yield f"the image of step {name or index}, {image}, may be another one tomorrow: give a version's tag"
        if "script" in step and ("args" in step or "entrypoint" in step):
            yield f"step {name} has a script and args or entrypoint: Cloud Build takes one or the other"
        for other in step.get("waitFor", []):
            if other != "-" and other not in before:
                yield f"step {name} waits for {other}, which is no step before it"
        before.add(name)


def of_substitutions(build: dict[str, Any]) -> Iterator[str]:
    declared = build.get("substitutions", {})
    used: set[str] = set()
    for name in declared:
        if not re.fullmatch(r"_[A-Z0-9_]+", name):
            yield f"substitution {name} does not begin with _, or is not in capitals"
    for at, text in texts(build):
        if at.endswith(".script"):
            names = {name for name in _VARIABLE.findall(text) if name not in SHELL}
            assigned = set(re.findall(r"\b([A-Z_][A-Z0-9_]*)=", text))
            names -= assigned - set(declared)
        else:
            names = {first or second for first, second in _SUBSTITUTION.findall(text)}
        used |= names
        for name in sorted(names - set(declared) - BUILT_IN):
            yield f"{at} uses {name}, which is neither declared nor Cloud Build's"
    for name in sorted(set(declared) - used):
        yield f"substitution {name} is not used"
    mapped = build.get("options", {}).get("automapSubstitutions")
    scripts = any("script" in step for step in build.get("steps", []))
    if scripts and not mapped:
        yield "scripts see no substitutions without options.automapSubstitutions"
    nested = any("$" in str(value) for value in declared.values())
    if nested and not build.get("options", {}).get("dynamicSubstitutions"):
        yield "substitutions that use others need options.dynamicSubstitutions"


def texts(value: Any, at: str = "build") -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield at, value
    elif isinstance(value, dict):
        for name, item in value.items():
            yield from texts(item, f"{at}.{name}")
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from texts(item, f"{at}[{index}]")


def of_scripts(build: dict[str, Any]) -> Iterator[str]:
    for step in build["steps"]:
        script = step.get("script")
        if script is None:
            continue
        shell = re.match(r"#!(/bin/(?:ba)?sh)\n", script)
        if shell is None:
            yield f"the script of step {step['id']} does not begin with #!/bin/sh or #!/bin/bash"
            continue
        if not re.search(r"^set -eu", script, re.MULTILINE):
            yield f"the script of step {step['id']} goes on after errors: set -eu"
        result = subprocess.run([shell.group(1), "-n"], input=script, text=True, capture_output=True)
        if result.returncode != 0:
            yield f"the script of step {step['id']}: {result.stderr.strip()}"
        for file in re.findall(r"\bscripts/[\w./-]+", script):
            if not (ROOT / file).is_file():
                yield f"the script of step {step['id']} runs {file}, which does not exist"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
