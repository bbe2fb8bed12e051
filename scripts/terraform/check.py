#!/usr/bin/env python3
"""Holds the Terraform code to the provider's schema, to the worker's settings and to rules of our own.

    python3 -m terraform.check FOLDER

What is wrong is told all at once, each with file and line. schema.json is made by extract_schema.py.
Terraform's own `validate` finds part of it as well; this needs no Terraform. What neither sees: whether the
values fit each other at Google, which only `terraform apply` knows.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import checks

from . import hcl
from .hcl import Block, Expression

ROOT = hcl.ROOT
SCHEMA = Path(__file__).with_name("schema.json")

# What Terraform itself understands in every resource, data source or module call.
_META = {"count", "for_each", "depends_on", "provider", "providers", "source", "version"}
_META_BLOCKS = {"lifecycle"}
_LIFECYCLE = {"create_before_destroy", "prevent_destroy", "ignore_changes", "replace_triggered_by"}

# The worker reads these, and nobody sets them in the cloud: Cloud Run sets the port, the rest is for emulators,
# the local mode and tests.
NOT_IN_THE_CLOUD = {
    "CUTOUT_HOST",
    "CUTOUT_MAX_ATTEMPTS",
    "CUTOUT_PUSH_KEYS_URL",
    "CUTOUT_ROOT",
    "PORT",
    "PUBSUB_EMULATOR_HOST",
    "STORAGE_EMULATOR_HOST",
}

# OpenTelemetry's own, of which its exporter reads some by itself: they are not in the worker's source.
# https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/
OPEN_TELEMETRY = {
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "OTEL_EXPORTER_OTLP_HEADERS",
    "OTEL_EXPORTER_OTLP_PROTOCOL",
    "OTEL_EXPORTER_OTLP_TIMEOUT",
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
    "OTEL_EXPORTER_OTLP_TRACES_HEADERS",
    "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT",
    "OTEL_RESOURCE_ATTRIBUTES",
    "OTEL_SDK_DISABLED",
    "OTEL_SERVICE_NAME",
    "OTEL_TRACES_SAMPLER",
    "OTEL_TRACES_SAMPLER_ARG",
}

# A shell's or a build's, which `cutout publish` goes on from: nobody deploys a worker with them.
TRACE_CONTEXT = {"TRACEPARENT", "TRACESTATE"}

# Roles that may be given on a whole project, and why not on less.
PROJECT_ROLES = {
    "roles/containeranalysis.notes.editor": "gcloud makes the note for bills of materials the first time",
    "roles/containeranalysis.occurrences.editor": "occurrences are in the project of the image",
    "roles/logging.logWriter": "log buckets have no permission to write",
    "roles/monitoring.viewer": "metrics have no permissions of their own",
    "roles/ondemandscanning.admin": "scans have no permissions of their own",
    "roles/parametermanager.parameterViewer": "the provider cannot give it on one parameter",
}

# Roles that are called administrators' and hold nothing that would make one.
NO_ADMINISTRATORS = {"roles/ondemandscanning.admin": "the one role there is for asking what is known of packages"}


def main(arguments: list[str]) -> int:
    well = "schema, references, the worker's settings and our own rules hold"
    return checks.main(arguments, __doc__, faults, "terraform", well)


def faults(folder: Path) -> list[str]:
    """Everything that is wrong below a folder of modules; empty when nothing is."""
    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
    try:
        modules = load(folder)
    except hcl.SyntaxFault as fault:
        return [str(fault)]
    found = Faults()
    known = worker_variables()
    for module in modules.values():
        check_schema(module, schema, found)
        check_references(module, modules, schema, found)
        check_environment(module, known, found)
        check_policy(module, found)
    return found.told


class Faults:
    """What is wrong, as lines."""

    def __init__(self):
        self.told: list[str] = []

    def add(self, block: Block, line: int, message: str) -> None:
        self.told.append(f"{block.file}:{line}: {message}")


def load(folder: Path) -> dict[Path, list[Block]]:
    """The blocks of each module, by its folder."""
    modules: dict[Path, list[Block]] = {}
    for path in sorted(folder.rglob("*.tf")):
        modules.setdefault(path.parent.resolve(), []).extend(hcl.load(path).blocks)
    if not modules:
        raise hcl.SyntaxFault(f"{folder}: no Terraform files")
    return modules


def worker_variables() -> set[str]:
    """The environment variables that the worker reads: out of its source, and OpenTelemetry's."""
    files = [ROOT / "src" / "config.rs", *sorted((ROOT / "src" / "config").glob("*.rs"))]
    text = "\n".join(path.read_text(encoding="utf-8") for path in files)
    return (set(re.findall(r'\benv = "([A-Z][A-Z0-9_]+)"', text)) | OPEN_TELEMETRY) - TRACE_CONTEXT


# ---- The provider's schema ------------------------------------------------------------------------


def check_schema(module: list[Block], schema: dict, found: Faults) -> None:
    variables = {block.labels[0]: block for block in module if block.kind == "variable"}
    for block in module:
        if block.kind not in ("resource", "data"):
            continue
        if len(block.labels) != 2:
            found.add(block, block.line, f"{block.address} needs a type and a name")
            continue
        arguments = schema[block.kind].get(block.labels[0])
        if arguments is None:
            found.add(
                block,
                block.line,
                f"{block.labels[0]} is not in schema.json: misspelt, or to be added to extract_schema.py",
            )
            continue
        check_block(block, block.address, arguments, variables, found, outermost=True)


def check_block(
    block: Block, where: str, arguments: dict, variables: dict, found: Faults, outermost: bool = False
) -> None:
    for name, value in block.attributes.items():
        if outermost and name in _META:
            continue
        entry = arguments.get(name)
        if entry is None:
            found.add(block, value.line, f"{where} has no argument {name}{_near(name, arguments)}")
        elif entry.get("computed"):
            found.add(block, value.line, f"{where}.{name} is told by the provider, not set")
        elif entry["kind"] == "block":
            found.add(block, value.line, f"{where}.{name} is a block: write `{name} {{`, without `=`")
        else:
            check_value(block, f"{where}.{name}", value, entry, variables, found)
    seen: dict[str, int] = {}
    for child in block.blocks:
        if outermost and child.kind in _META_BLOCKS:
            for name, value in child.attributes.items():
                if name not in _LIFECYCLE:
                    found.add(child, value.line, f"{where}.{child.kind} has no argument {name}")
            continue
        entry = arguments.get(child.kind)
        if entry is None:
            near = _near(child.kind, arguments)
            found.add(child, child.line, f"{where} has no block {child.kind}{near}")
            continue
        if entry["kind"] != "block":
            found.add(child, child.line, f"{where}.{child.kind} is an argument: write `{child.kind} =`")
            continue
        seen[child.kind] = seen.get(child.kind, 0) + 1
        if seen[child.kind] == 2 and not entry["many"]:
            found.add(child, child.line, f"{where} takes one block {child.kind}, not several")
        check_block(child, f"{where}.{child.kind}", entry["block"], variables, found)
    for name, entry in arguments.items():
        if entry["required"] and name not in block.attributes and name not in seen:
            found.add(block, block.line, f"{where} lacks {name}, which is required")


def check_value(
    block: Block, where: str, value: Expression, entry: dict, variables: dict, found: Faults
) -> None:
    constant, line = value.constant, value.line
    named = re.fullmatch(r"var\.(\w+)", value.text)
    if named and named[1] in variables and "default" in variables[named[1]].attributes:
        constant = variables[named[1]].attributes["default"].constant
    if entry["many"]:
        if constant is not None:
            found.add(block, line, f"{where} is a list, not {value.text}")
        given = value.items()
    else:
        if value.text.startswith("["):
            found.add(block, line, f"{where} is one value, not a list")
        given = [] if constant is None else [constant]
        # Both branches of a choice between two literals.
        choice = re.fullmatch(r'[^"?]*\?\s*"([^"$]*)"\s*:\s*"([^"$]*)"', value.text)
        given += list(choice.groups()) if choice else []
    if entry["kind"] == "map" and constant is not None:
        found.add(block, line, f"{where} is a map, not {value.text}")
    for one in given:
        if entry["kind"] == "number" and not _is_number(one):
            found.add(block, line, f"{where} is a number, not {one!r}")
        if entry["kind"] == "bool" and str(one).lower() not in ("true", "false"):
            found.add(block, line, f"{where} is true or false, not {one!r}")
        if "enum" in entry and str(one) not in entry["enum"]:
            found.add(block, line, f"{where} is {one!r}, but may be {', '.join(entry['enum'])}")


def _is_number(value) -> bool:
    return not isinstance(value, bool) and re.fullmatch(r"-?\d+(\.\d+)?", str(value)) is not None


def _near(name: str, known) -> str:
    import difflib

    close = difflib.get_close_matches(name, known, 1)
    return f": {close[0]}?" if close else ""


# ---- References -----------------------------------------------------------------------------------


def check_references(module: list[Block], modules: dict, schema: dict, found: Faults) -> None:
    variables = {block.labels[0]: block for block in module if block.kind == "variable"}
    calls = {block.labels[0]: block for block in module if block.kind == "module"}
    local = {
        name: value for block in module if block.kind == "locals" for name, value in block.attributes.items()
    }
    here = {
        ("data." if block.kind == "data" else "") + ".".join(block.labels)
        for block in module
        if block.kind in ("resource", "data")
    }
    used: set[str] = set()

    for block in module:
        own = block.labels[0] if block.kind == "variable" else None
        for value in block.expressions():
            for reference in value.references():
                name = re.sub(r"\[[^\]]*\]|\.\*", "", reference)
                head, *rest = name.split(".")
                if not rest:
                    continue
                if head in ("var", "local"):
                    if not (own and rest[0] == own):
                        used.add(f"{head}.{rest[0]}")
                    table = variables if head == "var" else local
                    if rest[0] not in table:
                        found.add(
                            block, value.line, f"{head}.{rest[0]} is not declared{_near(rest[0], table)}"
                        )
                elif head == "module":
                    check_output(block, value.line, rest, calls, modules, found)
                elif head == "each" and "for_each" not in block.attributes:
                    found.add(block, value.line, f"{name} without for_each in {block.address}")
                elif head == "data" or head.startswith("google_"):
                    parts = name.split(".")
                    kind, parts = ("data", parts[1:]) if head == "data" else ("resource", parts)
                    thing = ("data." if kind == "data" else "") + ".".join(parts[:2])
                    known = schema[kind].get(parts[0], {})
                    if thing not in here:
                        found.add(block, value.line, f"{thing} is not here")
                    elif known and len(parts) > 2 and parts[2] not in known:
                        found.add(block, value.line, f"{thing} has no {parts[2]}{_near(parts[2], known)}")

    for name, block in variables.items():
        if f"var.{name}" not in used:
            found.add(block, block.line, f"variable {name} is not used")
        for needed in ("description", "type"):
            if needed not in block.attributes:
                found.add(block, block.line, f"variable {name} has no {needed}")
        for rule in block.of("validation"):
            for needed in ("condition", "error_message"):
                if needed not in rule.attributes:
                    found.add(rule, rule.line, f"a validation of variable {name} has no {needed}")
    for name, value in local.items():
        if f"local.{name}" not in used:
            found.add(module[0], value.line, f"local {name} is not used")
    for block in module:
        if block.kind == "output":
            for needed in ("description", "value"):
                if needed not in block.attributes:
                    found.add(block, block.line, f"output {block.labels[0]} has no {needed}")
    for call in calls.values():
        check_call(call, modules, found)


def _called(call: Block, modules: dict) -> list[Block] | None:
    source = call.attributes.get("source")
    path = source.constant if source else None
    return modules.get((call.file.parent / str(path)).resolve()) if path else None


def check_call(call: Block, modules: dict, found: Faults) -> None:
    target = _called(call, modules)
    if target is None:
        found.add(call, call.line, f"{call.address} has no source that is here")
        return
    variables = {block.labels[0]: block for block in target if block.kind == "variable"}
    for name, value in call.attributes.items():
        if name not in variables and name not in _META:
            found.add(call, value.line, f"{call.address} has no variable {name}{_near(name, variables)}")
    for name, block in variables.items():
        if "default" not in block.attributes and name not in call.attributes:
            found.add(call, call.line, f"{call.address} lacks {name}, which has no default")


def check_output(block: Block, line: int, rest: list[str], calls: dict, modules: dict, found: Faults) -> None:
    call = calls.get(rest[0])
    if call is None:
        found.add(block, line, f"module.{rest[0]} is not here")
        return
    outputs = {out.labels[0] for out in _called(call, modules) or () if out.kind == "output"}
    if len(rest) > 1 and rest[1] not in outputs:
        found.add(block, line, f"module.{rest[0]} has no output {rest[1]}{_near(rest[1], outputs)}")


# ---- The worker's settings ------------------------------------------------------------------------


def check_environment(module: list[Block], known: set[str], found: Faults) -> None:
    """Every variable that workers are given is one that they read, and none is left out by mistake."""
    given: set[str] = set()
    allowed: set[str] = set()
    home = None
    for block in module:
        if block.kind == "locals" and "worker_environment" in block.attributes:
            home = block
            given = environment_names(block.attributes["worker_environment"])
        if block.kind == "variable" and block.labels[0] == "environment":
            for rule in block.of("validation"):
                allowed |= set(re.findall(r'"([A-Z][A-Z0-9_]+)"', rule.attributes["condition"].text))
        if block.kind == "module" and "environment" in block.attributes:
            value = block.attributes["environment"]
            for name in sorted(environment_names(value) - known):
                found.add(block, value.line, f"the worker reads no {name}{_near(name, known)}")
    if home is None:
        return
    line = home.attributes["worker_environment"].line
    for name in sorted((given | allowed) - known):
        found.add(home, line, f"the worker reads no {name}{_near(name, known)}")
    for name in sorted(given & allowed):
        found.add(home, line, f"{name} has a variable of its own, and var.environment takes it too")
    for name in sorted((given | allowed) & NOT_IN_THE_CLOUD):
        found.add(home, line, f"{name} is not to be set in the cloud")
    for name in sorted(known - given - allowed - NOT_IN_THE_CLOUD):
        found.add(home, line, f"the worker reads {name}: let var.environment take it")


def environment_names(value: Expression) -> set[str]:
    """The keys that name environment variables."""
    return {name for name, _ in value.keys() if re.fullmatch(r"[A-Z][A-Z0-9_]+", name)}


# ---- Rules of our own -----------------------------------------------------------------------------


def check_policy(module: list[Block], found: Faults) -> None:
    variables = {block.labels[0]: block for block in module if block.kind == "variable"}

    def settled(value: Expression | None):
        """A constant, or the default of the variable that stands there."""
        if value is None:
            return None
        named = re.fullmatch(r"var\.(\w+)", value.text)
        if named and named[1] in variables:
            default = variables[named[1]].attributes.get("default")
            return default.constant if default else None
        return value.constant

    for block in module:
        kind = block.labels[0] if block.kind == "resource" else ""
        if block.kind != "variable":  # whose validations may name what they refuse
            for value in block.expressions():
                if re.search(r"\ball(Authenticated)?Users\b", value.text):
                    found.add(block, value.line, f"{block.address} gives something to everybody")
        if kind == "google_storage_bucket":
            must = {"uniform_bucket_level_access": True, "public_access_prevention": "enforced"}
            for name, wanted in must.items():
                value = block.attributes.get(name)
                if value is None or value.constant != wanted:
                    found.add(block, block.line, f"{block.address} needs {name} = {json.dumps(wanted)}")
            if settled(block.attributes.get("force_destroy")) not in (None, False):
                found.add(block, block.line, f"{block.address} would be deleted with all that it holds by default")
        if kind.startswith("google_") and ("_iam_" in kind):
            check_role(block, kind, found)
        if kind in ("google_cloud_run_v2_worker_pool", "google_cloud_run_v2_service"):
            for template in block.of("template"):
                if "service_account" not in template.attributes:
                    found.add(block, template.line, f"{block.address} runs as the project's default account")
            if "deletion_protection" not in block.attributes:
                found.add(block, block.line, f"{block.address} does not say deletion_protection")
        if kind == "google_cloud_run_v2_service":
            ingress = settled(block.attributes.get("ingress"))
            if ingress not in ("INGRESS_TRAFFIC_INTERNAL_ONLY", "INGRESS_TRAFFIC_INTERNAL_LOAD_BALANCER"):
                found.add(block, block.line, f"{block.address} is open to the internet by default")
        if kind == "google_pubsub_subscription":
            ttl = [rule.attributes.get("ttl") for rule in block.of("expiration_policy")]
            if [value.constant for value in ttl if value] != [""]:
                found.add(block, block.line, f"{block.address} expires when nobody asks for 31 days")


def check_role(block: Block, kind: str, found: Faults) -> None:
    role = block.attributes.get("role")
    if role is None:
        return
    roles = set(re.findall(r"roles/[\w./*-]+", role.text))
    for value in block.expressions():
        roles |= set(re.findall(r'"(roles/[^"]*)"', value.text))
    for name in sorted(roles):
        if name in ("roles/owner", "roles/editor", "roles/viewer"):
            found.add(block, role.line, f"{block.address} gives {name}, which is nearly everything")
        elif "*" in name or (re.search(r"[aA]dmin$", name) and name not in NO_ADMINISTRATORS):
            found.add(block, role.line, f"{block.address} gives {name}: no administrators, no wildcards")
        elif kind.startswith("google_project_iam") and name not in PROJECT_ROLES:
            found.add(block, role.line, f"{block.address} gives {name} on the whole project")
    if not kind.endswith("_iam_member"):
        found.add(block, block.line, f"{kind} takes everybody else's permissions away: use …_iam_member")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
