#!/usr/bin/env python3
"""Writes schema.json: what the Google provider accepts for the resources that `terraform/` uses.

    python3 -m terraform.extract_schema FOLDER

FOLDER holds the two pinned wheels, or they are fetched into it with pip. Only whoever adds a
resource or moves the pins runs this; `make test` reads the result.

Where the schema comes from. Terraform asks the provider's program for it, which is not on any
package registry. Two Python packages are generated from it, and neither is enough:

- cdktf-cdktf-provider-google has every name as Terraform writes it, of release 6.50.0, its last.
- pulumi-gcp has the names of 7.x, but as Pulumi writes them: lists in the plural (`envs` for `env`).
  It is also made from the beta provider, so it has names that the ordinary one lacks.

So a name is taken from the first if the second still has it, in singular or plural; and from the
second alone only if it is listed below with where it was read that the ordinary provider has it. An
argument is required if either says so, since Pulumi makes up names and projects that are missing.
"""

from __future__ import annotations

import ast
import json
import re
import sys
import zipfile
from pathlib import Path

from provision import files
from provision.pins import Download

WHEELS = (
    Download(
        "pip",
        "cdktf-cdktf-provider-google==16.12.1",
        "cdktf_cdktf_provider_google-16.12.1-py3-none-any.whl",
        "88d021c89e1cf2abf2c935716d6548d26fe3da4bed30713d4fa36df1ef137436",
    ),
    Download(
        "pip",
        "pulumi-gcp==9.37.1",
        "pulumi_gcp-9.37.1-py3-none-any.whl",
        "883c7334bccff330e047c7adf51646cf381434fea377469e80561574bb6aa0cb",
    ),
)

# Terraform's name: the module and class of Pulumi's.
RESOURCES = {
    "google_artifact_registry_repository": ("artifactregistry/repository", "Repository"),
    "google_artifact_registry_repository_iam_member": (
        "artifactregistry/repository_iam_member",
        "RepositoryIamMember",
    ),
    "google_billing_budget": ("billing/budget", "Budget"),
    "google_cloud_run_v2_service": ("cloudrunv2/service", "Service"),
    "google_cloud_run_v2_worker_pool": ("cloudrunv2/worker_pool", "WorkerPool"),
    "google_cloud_run_v2_worker_pool_iam_member": (
        "cloudrunv2/worker_pool_iam_member",
        "WorkerPoolIamMember",
    ),
    "google_logging_metric": ("logging/metric", "Metric"),
    "google_monitoring_alert_policy": ("monitoring/alert_policy", "AlertPolicy"),
    "google_monitoring_dashboard": ("monitoring/dashboard", "Dashboard"),
    "google_monitoring_notification_channel": (
        "monitoring/notification_channel",
        "NotificationChannel",
    ),
    "google_monitoring_uptime_check_config": ("monitoring/uptime_check_config", "UptimeCheckConfig"),
    "google_parameter_manager_parameter": ("parametermanager/parameter", "Parameter"),
    "google_parameter_manager_parameter_version": (
        "parametermanager/parameter_version",
        "ParameterVersion",
    ),
    "google_project_iam_member": ("projects/iam_member", "IAMMember"),
    "google_project_service": ("projects/service", "Service"),
    "google_pubsub_schema": ("pubsub/schema", "Schema"),
    "google_pubsub_subscription": ("pubsub/subscription", "Subscription"),
    "google_pubsub_subscription_iam_member": (
        "pubsub/subscription_iam_member",
        "SubscriptionIAMMember",
    ),
    "google_pubsub_topic": ("pubsub/topic", "Topic"),
    "google_pubsub_topic_iam_member": ("pubsub/topic_iam_member", "TopicIAMMember"),
    "google_service_account": ("serviceaccount/account", "Account"),
    "google_service_account_iam_member": ("serviceaccount/iam_member", "IAMMember"),
    "google_storage_bucket": ("storage/bucket", "Bucket"),
    "google_storage_bucket_iam_member": ("storage/bucket_iam_member", "BucketIAMMember"),
    "google_storage_notification": ("storage/notification", "Notification"),
}

DATA = ("google_project", "google_storage_project_service_account")
"""Read as they are in the first package: they have hardly an argument."""

# Names that only the newer release has, by block. Each was looked up as part of the ordinary provider.
ADDED = {
    # https://github.com/GoogleCloudPlatform/magic-modules/pull/15156, released for both providers.
    "google_cloud_run_v2_worker_pool.template.containers": {"startup_probe", "liveness_probe"},
    "google_cloud_run_v2_worker_pool.template.containers.startup_probe": {"*"},
    "google_cloud_run_v2_worker_pool.template.containers.liveness_probe": {"*"},
}

_OF_THE_CDK = {"connection", "count", "depends_on", "for_each", "lifecycle", "provider", "provisioners"}


def main(arguments: list[str]) -> int:
    if len(arguments) != 1:
        print(__doc__)
        return 2
    folder = Path(arguments[0])
    cdk, pulumi = (
        zipfile.ZipFile(files.obtain(wheel, folder, files.fetch_with_client, print)) for wheel in WHEELS
    )
    schema = {"resource": {}, "data": {}}
    for name, (module, pulumi_class) in RESOURCES.items():
        older = Cdk(cdk, name.removeprefix("google_")).block()
        newer = Pulumi(pulumi, module, pulumi_class).block()
        schema["resource"][name] = {
            **Cdk(cdk, name.removeprefix("google_")).computed(),
            **merged(name, older, newer),
        }
    for name in DATA:
        data = Cdk(cdk, f"data_{name}")
        schema["data"][name] = {**data.computed(), **data.block()}
    target = Path(__file__).with_name("schema.json")
    origin = {wheel.filename: wheel.sha256 for wheel in WHEELS}
    text = json.dumps({"origin": origin, **schema}, indent=1, sort_keys=True)
    # One line for each argument keeps the file readable and its changes small.
    text = re.sub(r"\{\s+(\"(?:computed|enum|kind|many|required)\"[^{}]*?)\s+\}", _on_one_line, text)
    target.write_text(text + "\n", encoding="utf-8")
    print(f"wrote {target}")
    return 0


def _on_one_line(match: re.Match) -> str:
    return "{" + re.sub(r"\s*\n\s*", " ", match[1]) + "}"


class Cdk:
    """One resource of cdktf-cdktf-provider-google."""

    def __init__(self, wheel: zipfile.ZipFile, folder: str):
        source = wheel.read(f"cdktf_cdktf_provider_google/{folder}/__init__.py").decode()
        self.classes = {node.name: node for node in ast.parse(source).body if isinstance(node, ast.ClassDef)}
        exports = ast.literal_eval(re.search(r"__all__ = (\[.*?\])", source, re.S)[1])
        self.top = exports[0]  # the resource itself

    def block(self, name: str = "") -> dict:
        block = {}
        for argument, annotation, required, doc in _arguments(self.classes[name or self.top]):
            if not name and argument in {*_OF_THE_CDK, "scope", "id_"}:
                continue
            # The link at the end has the name as Terraform writes it.
            link = re.search(r"#(\w+) \w+#\w+\}", doc)
            tf_name = link[1] if link else argument
            nested = next((n for n in re.findall(r"\w+", annotation) if n in self.classes), "")
            block[tf_name] = _entry(annotation, required, doc)
            if nested:
                block[tf_name] |= {"kind": "block", "block": self.block(nested)}
        return block

    def computed(self) -> dict:
        """The texts and numbers that the provider tells and nobody sets."""
        found = {}
        for node in self.classes[self.top].body:
            if (
                not isinstance(node, ast.FunctionDef)
                or node.returns is None
                or node.name.endswith(("_input", "_TYPE"))
            ):
                continue
            member = next((d for d in node.decorator_list if "jsii.member" in ast.unparse(d)), None)
            kind = _kind(ast.unparse(node.returns))
            if member is not None and len(node.args.args) == 1 and kind in ("string", "number", "bool"):
                name = node.name.rstrip("_")
                many = "List[" in ast.unparse(node.returns)
                found[name] = {"computed": True, "kind": kind, "many": many, "required": False}
        return {name: entry for name, entry in found.items() if name not in self.block()}


class Pulumi:
    """One resource of pulumi-gcp."""

    def __init__(self, wheel: zipfile.ZipFile, module: str, top: str):
        folder = module.split("/")[0]
        self.classes = {}
        for file in (module, f"{folder}/_inputs"):
            name = f"pulumi_gcp/{file}.py"
            if name in wheel.namelist():
                for node in ast.parse(wheel.read(name).decode()).body:
                    if isinstance(node, ast.ClassDef):
                        self.classes[node.name] = node
        self.top = f"{top}Args"

    def block(self, name: str = "") -> dict:
        block = {}
        for argument, annotation, required, doc in _arguments(self.classes[name or self.top]):
            nested = next((n for n in re.findall(r"\w+Args", annotation) if n in self.classes), "")
            block[argument.rstrip("_")] = _entry(annotation, required, doc)
            if nested:
                block[argument] |= {"kind": "block", "block": self.block(nested)}
        return block


def _arguments(node: ast.ClassDef):
    """(name, annotation, required, description) of each keyword of a class's constructor."""
    init = next(n for n in node.body if isinstance(n, ast.FunctionDef) and n.name == "__init__")
    docs = dict(
        re.findall(
            r":param (?:pulumi\.Input\[.*?\] )?(\w+): (.*?)(?=\n\s*:param |\Z)",
            ast.get_docstring(init) or "",
            re.S,
        )
    )
    for argument, default in zip(init.args.kwonlyargs, init.args.kw_defaults):
        annotation = ast.unparse(argument.annotation)
        yield argument.arg, annotation, default is None, docs.get(argument.arg, "")


def _entry(annotation: str, required: bool, doc: str) -> dict:
    entry = {"kind": _kind(annotation), "required": required}
    entry["many"] = "Sequence[" in annotation
    # Both packages have the same sentence, in brackets or not.
    listed = re.search(
        r"[Pp]ossible values(?: are)?:?\s*(\[[^\]]*\]|(?:`[^`]+`(?:,? (?:and|or) |, )?)+)", doc
    )
    values = re.findall(r"[\"`]([^\"`]+)[\"`]", listed[1]) if listed else []
    if values and entry["kind"] == "string":
        entry["enum"] = values
    return entry


def _kind(annotation: str) -> str:
    if "Mapping[" in annotation:
        return "map"
    for python, kind in (("str", "string"), ("bool", "bool"), ("int", "number"), ("float", "number")):
        if re.search(rf"builtins\.{python}\b", annotation):
            return kind
    if "jsii.Number" in annotation:
        return "number"
    return "any"


def merged(path: str, older: dict, newer: dict) -> dict:
    """The names of the older release that the newer still has, and those that were looked up."""
    block = {}
    spare = dict(newer)
    for name, entry in older.items():
        match = next((n for n in (name, *_plurals(name)) if n in spare), None)
        if match is None:
            if name in {"id", "timeouts"}:  # of Terraform itself
                block[name] = entry
            else:
                print(f"{path}.{name} is gone from the newer release")
            continue
        other = spare.pop(match)
        entry = {**entry, "required": entry["required"] or other["required"]}
        if other.get("enum"):
            entry["enum"] = sorted({*entry.get("enum", ()), *other["enum"]})
        if entry["kind"] == "block" and other["kind"] == "block":
            entry["block"] = merged(f"{path}.{name}", entry["block"], other["block"])
        block[name] = entry
    wanted = ADDED.get(path, set())
    for name, entry in spare.items():
        if wanted & {name, "*"}:
            if entry["kind"] == "block":
                below = f"{path}.{name}"
                ADDED.setdefault(below, {"*"} if "*" in wanted else set())
                entry = {**entry, "block": merged(below, {}, entry["block"])}
            block[name] = entry
        else:
            print(f"{path}.{name} is newer or of the beta provider: left out")
    return block


def _plurals(name: str) -> list[str]:
    return [name + "s", name + "es", re.sub("y$", "ies", name)]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
