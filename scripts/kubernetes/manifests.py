#!/usr/bin/env python3
"""Holds the manifests for GKE to the schemas of their kinds, and together: names, ports and settings that stand in
more than one place.

    python3 -m kubernetes.manifests FOLDER

What this does not see: what a cluster allows, and whether there are cards. `kubectl apply --dry-run=server` does the
first.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import checks
from terraform import check
from yaml_file import YAMLError, documents

from . import schema

# Kubernetes kills what is still there; the worker flushes its answers within this after its drain.
FLUSH_SECONDS = 10

# The backlog, in PromQL; Terraform's autoscaler asks the same.
QUERY = (
    'sum({"__name__"="pubsub.googleapis.com/subscription/num_undelivered_messages",'
    '"monitored_resource"="pubsub_subscription","subscription_id"="SUBSCRIPTION"})'
)


def main(arguments: list[str]) -> int:
    return checks.main(arguments, __doc__, faults, "manifests", "schemas hold; names, ports and settings agree")


def faults(folder: Path) -> list[str]:
    """Everything that does not fit; empty when all does."""
    told: list[str] = []
    try:
        kustomization = read(folder / "kustomization.yaml")[0]
        listed = kustomization["resources"]
        there = sorted(path.name for path in folder.glob("*.yaml") if path.name != "kustomization.yaml")
        if sorted(listed) != there:
            told.append(f"kustomization.yaml lists {sorted(listed)}, but there are {there}")
        every = [(name, thing) for name in there for thing in read(folder / name)]
        wrong = [f"{name}: {fault}" for name, thing in every for fault in [schema.fault(thing)] if fault]
        if wrong:
            # What is wrong in shape would only trip the rest.
            return [*told, *wrong]
        things = {(thing["kind"], thing["metadata"]["name"]): thing for _, thing in every}
    except (YAMLError, KeyError, TypeError, OSError) as fault:
        return [f"{folder}: {type(fault).__name__}: {fault}"]

    def one(kind: str) -> dict:
        found = [thing for (of, _), thing in things.items() if of == kind]
        if len(found) != 1:
            raise LookupError(f"there should be one {kind}, and there are {len(found)}")
        return found[0]

    def same(what: str, actual, wanted) -> None:
        if actual != wanted:
            told.append(f"{what} is {actual!r} and should be {wanted!r}")

    try:
        deployment, settings, scaled = one("Deployment"), one("ConfigMap"), one("ScaledObject")
        account, budget, policy, scrape = (
            one("ServiceAccount"),
            one("PodDisruptionBudget"),
            one("NetworkPolicy"),
            one("PodMonitoring"),
        )
        namespace, credentials = one("Namespace"), one("TriggerAuthentication")
    except LookupError as fault:
        return [*told, str(fault)]

    same("the namespace", kustomization["namespace"], namespace["metadata"]["name"])
    pod = deployment["spec"]["template"]
    (container,) = pod["spec"]["containers"]
    labels = pod["metadata"]["labels"]
    for name, selector in (
        ("Deployment's selector", deployment["spec"]["selector"]),
        ("PodDisruptionBudget's selector", budget["spec"]["selector"]),
        ("NetworkPolicy's selector", policy["spec"]["podSelector"]),
        ("PodMonitoring's selector", scrape["spec"]["selector"]),
    ):
        same(f"the {name}", selector.get("matchLabels"), labels)
    same("the pod's account", pod["spec"].get("serviceAccountName"), account["metadata"]["name"])
    same("what is scaled", scaled["spec"]["scaleTargetRef"]["name"], deployment["metadata"]["name"])
    if "replicas" in deployment["spec"]:
        told.append("the Deployment says replicas, which the ScaledObject sets")

    # The image
    same("the image's name", [image["name"] for image in kustomization["images"]], [container["image"]])
    same("the command", container.get("args"), ["worker"])

    # Ports
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    same("the side port", ports, {"side": 8080})
    for probe, path in (
        ("startupProbe", "/startup"),
        ("readinessProbe", "/startup"),
        ("livenessProbe", "/health"),
    ):
        get = container.get(probe, {}).get("httpGet", {})
        same(probe, (get.get("path"), get.get("port")), (path, "side"))
    startup = container.get("startupProbe", {})
    same(
        "the startup probe's time", startup.get("periodSeconds", 10) * startup.get("failureThreshold", 3), 240
    )
    (endpoint,) = scrape["spec"]["endpoints"]
    same("what is scraped", (endpoint["port"], endpoint["path"]), ("side", "/metrics"))
    inward = [port["port"] for rule in policy["spec"]["ingress"] for port in rule["ports"]]
    same("the port that is let in", inward, [ports["side"]])
    outward = {port["port"] for rule in policy["spec"]["egress"] for port in rule["ports"]}
    ways = {"names": {53}, "HTTPS": {443}, "the metadata server": {80, 987, 988, 8080}, "traces": {4317, 4318}}
    for way, needed in ways.items():
        if not needed <= outward:
            told.append(f"the NetworkPolicy does not let out {way}: {sorted(needed - outward)}")

    # Settings
    sources = [source["configMapRef"]["name"] for source in container["envFrom"]]
    same("where the settings come from", sources, [settings["metadata"]["name"]])
    given = settings["data"]
    known = check.worker_variables()
    for name in sorted(set(given) - known):
        told.append(f"the worker reads no {name}")
    for name in sorted(set(given) & check.NOT_IN_THE_CLOUD):
        told.append(f"{name} is not to be set in the cloud")
    same("the ingress", given.get("CUTOUT_INGRESS"), "pubsub")
    drain = re.fullmatch(r"(\d+)s", str(given.get("CUTOUT_DRAIN_TIMEOUT")))
    grace = pod["spec"].get("terminationGracePeriodSeconds", 30)
    if not drain or int(drain[1]) + FLUSH_SECONDS > grace:
        told.append(
            f"terminationGracePeriodSeconds is {grace}: CUTOUT_DRAIN_TIMEOUT and {FLUSH_SECONDS} s do not fit in"
        )

    # The autoscaler
    project, subscription = given.get("GOOGLE_CLOUD_PROJECT"), given.get("CUTOUT_SUBSCRIPTION")
    (trigger,) = scaled["spec"]["triggers"]
    same("the scaler", trigger["type"], "prometheus")
    asked = trigger["metadata"]
    same(
        "the project that is asked",
        asked.get("serverAddress"),
        f"https://monitoring.googleapis.com/v1/projects/{project}/location/global/prometheus",
    )
    same("the subscription that is scaled by", asked.get("query"), QUERY.replace("SUBSCRIPTION", str(subscription)))
    same("the scaler's credentials", trigger["authenticationRef"]["name"], credentials["metadata"]["name"])
    target, jobs = asked.get("threshold", "0"), given.get("CUTOUT_MAX_JOBS", "0")
    if int(target) <= 2 * int(jobs):
        told.append(f"the autoscaler's target is {target}: it must be above twice CUTOUT_MAX_JOBS")
    if not 0 <= scaled["spec"]["minReplicaCount"] <= scaled["spec"]["maxReplicaCount"]:
        told.append("minReplicaCount is above maxReplicaCount")

    # A worker with a card says so in both places, and no container has more rights than it needs.
    card = container["resources"]["limits"].get("nvidia.com/gpu")
    same(
        "the node's card",
        pod["spec"].get("nodeSelector", {}).get("cloud.google.com/gke-accelerator"),
        "nvidia-l4",
    )
    same("the cards", card, "1")
    same("the provider", given.get("CUTOUT_PROVIDER"), "cuda")
    same("runAsNonRoot", pod["spec"].get("securityContext", {}).get("runAsNonRoot"), True)
    context = container.get("securityContext", {})
    same("allowPrivilegeEscalation", context.get("allowPrivilegeEscalation"), False)
    same("the capabilities", context.get("capabilities"), {"drop": ["ALL"]})
    return told


def read(path: Path) -> list[dict]:
    """The documents of a file. Raises YAMLError."""
    try:
        return documents(path.read_text(encoding="utf-8"))
    except YAMLError as fault:
        raise YAMLError(f"{path.name}: {fault}") from fault


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
