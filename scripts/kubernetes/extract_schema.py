#!/usr/bin/env python3
"""Writes schema.json: what Kubernetes, KEDA and Google's collector accept in the kinds that deploy/gke uses.

    python3 -m kubernetes.extract_schema FOLDER

FOLDER holds the pinned sources, or they are fetched into it with pip and git. Only whoever adds a kind or moves
the pins runs this; `make test` reads the result.

- Kubernetes' own kinds come out of kubernetes-validate, which has the API server's description of every release as
  JSON Schema. An older release is taken, so that nothing is used that a cluster may not have yet. That description
  names possible values in words alone: the lists below are those words, and the extraction fails where they differ.
- KEDA's kinds and Google's come out of the definitions that are installed into a cluster, at a release's commit.

What is left out: descriptions, formats of numbers, what a cluster adds (status), rules in CEL.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any, Iterator

import yaml_file
from provision import files
from provision.pins import Download

KUBERNETES = "1.33.0"
_META = "io.k8s.apimachinery.pkg.apis.meta.v1"
_CORE = "io.k8s.api.core.v1"

WHEEL = Download(
    "pip",
    "kubernetes-validate==1.37.0",
    "kubernetes_validate-1.37.0-py3-none-any.whl",
    "85136d018a27b50ec7fc049d902bfa5193f5976807e6c0f408e3ab6fe078cad9",
)

# Kind: its definition in the description of Kubernetes' API.
OWN = {
    "ConfigMap": f"{_CORE}.ConfigMap",
    "Deployment": "io.k8s.api.apps.v1.Deployment",
    "Namespace": f"{_CORE}.Namespace",
    "NetworkPolicy": "io.k8s.api.networking.v1.NetworkPolicy",
    "PodDisruptionBudget": "io.k8s.api.policy.v1.PodDisruptionBudget",
    "ServiceAccount": f"{_CORE}.ServiceAccount",
}


def _definition(repository: str, commit: str, path: str, sha256: str) -> Download:
    return Download("git", f"https://github.com/{repository} {commit} {path}", path.rsplit("/", 1)[-1], sha256)


_KEDA = ("kedacore/keda", "68a5b5028f35b22d50597c69819ab32c4e92f21a")  # v2.20.2
DEFINITIONS = (
    _definition(
        *_KEDA,
        "config/crd/bases/keda.sh_scaledobjects.yaml",
        "af35555862a83933b074af14ad439c4b4ceabaf4daa3e9338e9b23e36d308d80",
    ),
    _definition(
        *_KEDA,
        "config/crd/bases/keda.sh_triggerauthentications.yaml",
        "275307b4cb19ca8f0f506a879282aa4c67587ac16ec757f494d6585c5c185d65",
    ),
    _definition(
        "GoogleCloudPlatform/prometheus-engine",
        "7920a2a222af1c09535d8141684e2944670c5041",  # v0.17.2
        "charts/operator/crds/monitoring.googleapis.com_podmonitorings.yaml",
        "d344029bc7754e0254d7c253db9d6400b344d5837e121b42790946757bc79f1f",
    ),
)

# Values that the description has in words.
VALUES = {
    ("io.k8s.api.apps.v1.DeploymentStrategy", "type"): ("Recreate", "RollingUpdate"),
    (f"{_CORE}.Container", "imagePullPolicy"): ("Always", "Never", "IfNotPresent"),
    (f"{_CORE}.ContainerPort", "protocol"): ("UDP", "TCP", "SCTP"),
    (f"{_CORE}.PodSpec", "restartPolicy"): ("Always", "OnFailure", "Never"),
    (f"{_CORE}.SeccompProfile", "type"): ("Localhost", "RuntimeDefault", "Unconfined"),
    (f"{_CORE}.Toleration", "effect"): ("NoSchedule", "PreferNoSchedule", "NoExecute"),
    (f"{_CORE}.Toleration", "operator"): ("Exists", "Equal"),
    (f"{_CORE}.TopologySpreadConstraint", "whenUnsatisfiable"): ("DoNotSchedule", "ScheduleAnyway"),
    ("io.k8s.api.networking.v1.NetworkPolicyPort", "protocol"): ("TCP", "UDP", "SCTP"),
    ("io.k8s.api.networking.v1.NetworkPolicySpec", "policyTypes"): ("Ingress", "Egress"),
    (f"{_META}.LabelSelectorRequirement", "operator"): ("In", "NotIn", "Exists", "DoesNotExist"),
}

# As Prometheus writes them; the definition calls that a format.
_DURATION = "^([0-9]+(ms|s|m|h|d|w|y))+$"
_KEPT = {
    *("$ref", "additionalProperties", "allOf", "anyOf", "enum", "items", "maxItems", "maxLength", "maximum"),
    *("minItems", "minLength", "minimum", "oneOf", "pattern", "properties", "required", "type"),
}


def main(arguments: list[str]) -> int:
    if len(arguments) != 1:
        print(__doc__)
        return 2
    folder = Path(arguments[0])
    definitions = of_kubernetes(files.obtain(WHEEL, folder, files.fetch_with_client, print))
    kinds = {kind: {"$ref": f"#/$defs/{name}"} for kind, name in OWN.items()}
    for source in DEFINITIONS:
        kind, schema = of_definition(files.obtain(source, folder, fetch_with_git, print))
        kinds[kind] = {"$ref": f"#/$defs/{kind}"}
        definitions[kind] = schema
    used = reachable(definitions, [reference["$ref"] for reference in kinds.values()])
    write(Path(__file__).with_name("schema.json"), kinds, {name: definitions[name] for name in used})
    return 0


def fetch_with_git(download: Download, folder: Path, _fresh: bool) -> None:
    """Writes one file of a repository at a commit."""
    repository, commit, path = download.spec.split()

    def git(*command: str) -> bytes:
        return subprocess.run(["git", *command], cwd=folder, check=True, stdout=subprocess.PIPE).stdout

    git("init", "--quiet")
    git("fetch", "--quiet", "--depth=1", repository, commit)
    (folder / download.filename).write_bytes(git("show", f"FETCH_HEAD:{path}"))


def of_kubernetes(wheel: Path) -> dict[str, Any]:
    """The definitions of a release; the wheel's own refuse unknown fields already."""
    member = f"kubernetes_validate/kubernetes-json-schema/v{KUBERNETES}-local-strict/_definitions.json"
    with zipfile.ZipFile(wheel) as archive:
        described = json.loads(archive.read(member))["$defs"]
    definitions = {name: reduced(schema) for name, schema in described.items()}
    for (name, field), values in VALUES.items():
        words = described[name]["properties"][field]["description"]
        missing = [value for value in values if not re.search(rf"\b{value}\b", words)]
        if missing:
            sys.exit(f"{name}.{field} says nothing of {', '.join(missing)}: {words}")
        place = definitions[name]["properties"][field]
        place.get("items", place)["enum"] = list(values)
    for name in OWN.values():
        told_by_itself(definitions[name])
    return definitions


def of_definition(file: Path) -> tuple[str, dict[str, Any]]:
    """The kind that a CustomResourceDefinition defines, and its schema."""
    (definition,) = yaml_file.documents(file.read_text("utf-8"))
    spec = definition["spec"]
    kind = spec["names"]["kind"]
    version = next(version for version in spec["versions"] if version["storage"])
    schema = closed(reduced(version["schema"]["openAPIV3Schema"]))
    schema["properties"]["apiVersion"]["enum"] = [f"{spec['group']}/{version['name']}"]
    schema["properties"]["kind"]["enum"] = [kind]
    schema["properties"]["metadata"] = {"$ref": f"#/$defs/{_META}.ObjectMeta"}
    told_by_itself(schema)
    return kind, schema


def told_by_itself(schema: dict[str, Any]) -> None:
    """A whole object says what it is, and leaves its status to the cluster."""
    schema["properties"].pop("status", None)
    schema["required"] = sorted({*schema.get("required", ()), "apiVersion", "kind", "metadata"})


def reduced(schema: Any) -> Any:
    """A schema without what does not decide, and where nothing may be null: a field left empty is a mistake."""
    if not isinstance(schema, dict):
        return schema
    small = {name: value for name, value in schema.items() if name in _KEPT}
    if schema.get("x-kubernetes-preserve-unknown-fields"):
        small["additionalProperties"] = True
    if schema.get("format") == "duration":
        small["pattern"] = _DURATION
    if isinstance(small.get("type"), list):
        (small["type"],) = [kind for kind in small["type"] if kind != "null"]
    for name in ("allOf", "anyOf", "oneOf"):
        if name in small:
            small[name] = [reduced(one) for one in small[name]]
    for name in ("additionalProperties", "items"):
        if name in small:
            small[name] = reduced(small[name])
    if "properties" in small:
        small["properties"] = {name: reduced(one) for name, one in small["properties"].items()}
    return small


def closed(schema: dict[str, Any]) -> dict[str, Any]:
    """A schema that refuses unknown fields, as the API server does when it is asked to."""
    if "properties" in schema:
        schema.setdefault("additionalProperties", False)
        for one in schema["properties"].values():
            closed(one)
    for name in ("additionalProperties", "items"):
        if isinstance(schema.get(name), dict):
            closed(schema[name])
    return schema


def reachable(definitions: dict[str, Any], references: list[str]) -> list[str]:
    found: set[str] = set()
    waiting = list(references)
    while waiting:
        name = waiting.pop().removeprefix("#/$defs/")
        if name not in found:
            found.add(name)
            waiting += of_references(definitions[name])
    return sorted(found)


def of_references(schema: Any) -> Iterator[str]:
    if isinstance(schema, dict):
        for name, value in schema.items():
            if name == "$ref" and isinstance(value, str):
                yield value
            else:
                yield from of_references(value)
    elif isinstance(schema, list):
        for one in schema:
            yield from of_references(one)


def write(target: Path, kinds: dict[str, Any], definitions: dict[str, Any]) -> None:
    origin = {download.spec: download.sha256 for download in (WHEEL, *DEFINITIONS)}
    parts = [("origin", origin), ("kinds", kinds), ("$defs", definitions)]
    # One line for each definition keeps the file readable and its changes small.
    text = ",\n".join(
        f' "{part}": {{\n'
        + ",\n".join(f"  {json.dumps(name)}: {json.dumps(table[name], sort_keys=True)}" for name in sorted(table))
        + "\n }"
        for part, table in parts
    )
    target.write_text("{\n" + text + "\n}\n", encoding="utf-8")
    print(f"wrote {target}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
