"""The check of the manifests for GKE: the real files pass, and each deliberate mistake in a copy is caught."""

import copy as copying
import hashlib
import json
import re
import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from kubernetes import extract_schema, manifests, schema
from provision import files
from provision.pins import Download
from terraform import check

FOLDER = check.ROOT / "deploy" / "gke"


class Manifests(unittest.TestCase):
    def mistake(self, file, old, new, *said):
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder) / "gke"
            shutil.copytree(FOLDER, copy)
            path = copy / file
            text = path.read_text()
            self.assertIn(old, text, f"{file} has changed: adapt this test")
            path.write_text(text.replace(old, new, 1))
            faults = manifests.faults(copy)
        self.assertEqual(len(faults), len(said), "\n".join(faults))
        for words, fault in zip(said, faults):
            self.assertIn(words, fault)

    def test_the_files_as_they_are_have_no_fault(self):
        self.assertEqual(manifests.faults(FOLDER), [])

    def test_a_file_that_is_not_yaml(self):
        self.mistake("worker.yaml", "kind: Deployment", "kind: : Deployment", "worker.yaml")

    def test_a_file_that_is_not_listed_and_a_kind_that_is_missing(self):
        self.mistake("kustomization.yaml", "  - network.yaml\n", "", "kustomization.yaml lists")
        self.mistake(
            "monitoring.yaml", "kind: PodMonitoring", "kind: PodMonitor", "no such kind in schema.json"
        )
        self.mistake(
            "autoscaling.yaml",
            "kind: TriggerAuthentication\nmetadata:\n  name: cutout-worker\nspec:\n  podIdentity:\n    provider: gcp",
            "kind: Namespace\nmetadata:\n  name: another",
            "apiVersion must be one of",
        )
        self.mistake(
            "monitoring.yaml",
            (FOLDER / "monitoring.yaml").read_text(),
            "apiVersion: v1\nkind: ServiceAccount\nmetadata:\n  name: another\n",
            "one ServiceAccount, and there are 2",
        )

    def test_a_selector_that_selects_nothing(self):
        name = "app.kubernetes.io/name: cutout-worker"
        for file, what in (("network.yaml", "NetworkPolicy"), ("monitoring.yaml", "PodMonitoring")):
            self.mistake(file, name, name + "s", f"the {what}'s selector")

    def test_a_setting_that_the_worker_does_not_read(self):
        self.mistake("settings.yaml", "LOG_LEVEL: info", "LOGLEVEL: info", "the worker reads no LOGLEVEL")

    def test_a_setting_that_is_no_text(self):
        self.mistake("settings.yaml", 'TARGET_SIZE: "1024"', "TARGET_SIZE: 1024", "ConfigMap.data.TARGET_SIZE must be string")

    def test_another_subscription_than_the_workers(self):
        self.mistake("autoscaling.yaml", '"="cutout-jobs"', '"="cutout-job"', "scaled by")
        self.mistake("autoscaling.yaml", "num_undelivered_messages", "num_unacked_messages", "scaled by")
        self.mistake("settings.yaml", "PROJECT: my-project", "PROJECT: other", "the project that is asked")

    def test_a_target_that_jobs_in_work_reach(self):
        self.mistake("autoscaling.yaml", 'threshold: "350"', 'threshold: "20"', "above twice CUTOUT_MAX_JOBS")
        self.mistake("autoscaling.yaml", 'threshold: "350"', "threshold: 350", "metadata.threshold must be string")

    def test_a_grace_that_is_shorter_than_the_drain(self):
        self.mistake("worker.yaml", "GracePeriodSeconds: 60", "GracePeriodSeconds: 55", "do not fit in")
        self.mistake("settings.yaml", "DRAIN_TIMEOUT: 50s", "DRAIN_TIMEOUT: 51s", "do not fit in")

    def test_probes_and_ports_that_do_not_meet(self):
        self.mistake("worker.yaml", "path: /startup", "path: /start", "startupProbe is")
        self.mistake(
            "worker.yaml", "failureThreshold: 48", "failureThreshold: 24", "the startup probe's time is 120"
        )
        self.mistake("monitoring.yaml", "port: side", "port: metrics", "what is scraped")
        self.mistake("network.yaml", "port: 8080", "port: 8081", "the port that is let in")
        for port, way in (("443", "HTTPS"), ("987", "the metadata server"), ("4317", "traces")):
            self.mistake("network.yaml", f"port: {port}", f"port: 1{port}", f"does not let out {way}: [{port}]")

    def test_another_deployment_or_account(self):
        self.mistake(
            "autoscaling.yaml",
            "scaleTargetRef:\n    name: cutout-worker",
            "scaleTargetRef:\n    name: worker",
            "what is scaled",
        )
        self.mistake(
            "worker.yaml",
            "serviceAccountName: cutout-worker",
            "serviceAccountName: worker",
            "the pod's account",
        )

    def test_replicas_that_fight_with_the_autoscaler(self):
        self.mistake(
            "worker.yaml", "spec:\n  # No replicas", "spec:\n  replicas: 2\n  # No replicas", "says replicas"
        )

    def test_a_worker_without_its_card_or_with_too_many_rights(self):
        self.mistake(
            "worker.yaml", "gke-accelerator: nvidia-l4", "gke-accelerator: nvidia-t4", "the node's card"
        )
        self.mistake("worker.yaml", "runAsNonRoot: true", "runAsNonRoot: false", "runAsNonRoot")
        self.mistake("worker.yaml", "drop: [ALL]", "drop: []", "the capabilities")

    def test_a_field_of_another_kind_and_one_that_is_misspelt(self):
        self.mistake(
            "worker.yaml",
            "terminationGracePeriodSeconds:",
            "terminationGracePeriodSecond:",
            "worker.yaml: Deployment cutout-worker: Deployment.spec.template.spec must not contain "
            "{'terminationGracePeriodSecond'} properties; terminationGracePeriodSecond may be "
            "terminationGracePeriodSeconds",
        )
        self.mistake(
            "autoscaling.yaml", "cooldownPeriod: 300", "coolDownPeriod: 300", "coolDownPeriod may be cooldownPeriod"
        )
        self.mistake("monitoring.yaml", "    - port: side", "    - ports: side", "must contain ['port'] properties")

    def test_a_value_that_is_not_among_those_allowed(self):
        for file, old, new in (
            ("worker.yaml", "operator: Exists", "operator: Exist"),
            ("worker.yaml", "effect: NoSchedule", "effect: NoScheduling"),
            ("worker.yaml", "type: RuntimeDefault", "type: Default"),
            ("network.yaml", "policyTypes: [Ingress, Egress]", "policyTypes: [Ingress, Outgress]"),
            ("network.yaml", "protocol: UDP", "protocol: QUIC"),
            ("autoscaling.yaml", "provider: gcp", "provider: google"),
        ):
            self.mistake(file, old, new, "must be one of")
        self.mistake("monitoring.yaml", "interval: 30s", "interval: 30 s", "must match pattern")
        self.mistake("worker.yaml", "apiVersion: apps/v1", "apiVersion: apps/v1beta1", "must be one of ['apps/v1']")

    def test_terraform_s_autoscaler_asks_the_same(self):
        tests = (check.ROOT / "terraform/modules/cutout/tests/settings.tftest.hcl").read_text()
        query = manifests.QUERY.replace("SUBSCRIPTION", "cutout-jobs")
        self.assertIn(f".metadata.query == {json.dumps(query)}\n", tests)

    def test_terraform_and_these_files_give_workers_the_same_settings(self):
        module = check.load(check.ROOT / "terraform")[(check.ROOT / "terraform/modules/cutout").resolve()]
        (settings,) = [b for b in module if b.kind == "locals" and "worker_environment" in b.attributes]
        in_terraform = check.environment_names(settings.attributes["worker_environment"])
        here = set(manifests.read(FOLDER / "settings.yaml")[0]["data"])
        self.assertLessEqual(here, in_terraform)
        # Those that only some deployments have.
        optional = r"CUTOUT_(PUSH_.*|HTTP_API|CLIENT_IP|CORS_ORIGINS|UPLOAD_PREFIX)"
        self.assertEqual({name for name in in_terraform - here if not re.fullmatch(optional, name)}, set())


class Schemas(unittest.TestCase):
    """Every place of every object, changed in a copy; what the schema says of it."""

    def setUp(self):
        self.things = [
            thing
            for path in sorted(FOLDER.glob("*.yaml"))
            if path.name != "kustomization.yaml"
            for thing in manifests.read(path)
        ]

    def places(self, value, path=()):
        """(path, value) of everything inside."""
        yield path, value
        inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        for key, below in inside:
            yield from self.places(below, (*path, key))

    def changed(self, thing, path, change):
        """A copy in which `change` was done to what holds the last step of a path."""
        copy = copying.deepcopy(thing)
        holder = copy
        for step in path[:-1]:
            holder = holder[step]
        change(holder, path[-1])
        return copy

    def test_each_kind_here_has_a_schema_and_no_other(self):
        kinds = json.loads(schema.SCHEMA.read_text())["kinds"]
        self.assertEqual({thing["kind"] for thing in self.things}, set(kinds))
        for thing in self.things:
            self.assertIsNone(schema.fault(thing))

    def test_an_unknown_field_is_refused_everywhere(self):
        tried = 0
        for thing in self.things:
            for path, value in self.places(thing):
                if isinstance(value, dict):
                    # In labels and the like any name may stand, but texts or quantities alone.
                    holder = self.changed(thing, (*path, "surplus"), lambda at, key: at.update({key: [True]}))
                    self.assertIsNotNone(schema.fault(holder), (thing["kind"], path))
                    tried += 1
        self.assertGreater(tried, 100)

    def test_a_wrong_type_is_refused_everywhere(self):
        tried = 0
        for thing in self.things:
            for path, value in self.places(thing):
                if path and not isinstance(value, dict):
                    wrong = {"surplus": True}
                    copy = self.changed(thing, path, lambda at, key: at.__setitem__(key, wrong))
                    self.assertIsNotNone(schema.fault(copy), (thing["kind"], path))
                    empty = self.changed(thing, path, lambda at, key: at.__setitem__(key, None))
                    self.assertIsNotNone(schema.fault(empty), (thing["kind"], path))
                    tried += 1
        self.assertGreater(tried, 100)

    def test_a_field_that_is_required_is_missed(self):
        missed = set()
        for thing in self.things:
            for path, _ in self.places(thing):
                if path and isinstance(path[-1], str):
                    copy = self.changed(thing, path, lambda at, key: at.pop(key))
                    if schema.fault(copy):
                        missed.add((thing["kind"], ".".join(str(step) for step in path)))
        for kind, path in (
            ("Deployment", "spec.selector"),
            ("Deployment", "spec.template.spec.containers"),
            ("Deployment", "spec.template.spec.containers.0.name"),
            ("Deployment", "spec.template.spec.containers.0.ports.0.containerPort"),
            ("Deployment", "spec.template.spec.containers.0.volumeMounts.0.mountPath"),
            ("Deployment", "spec.template.spec.containers.0.startupProbe.httpGet.port"),
            ("Deployment", "spec.template.spec.securityContext.seccompProfile.type"),
            ("ScaledObject", "spec.scaleTargetRef"),
            ("ScaledObject", "spec.triggers"),
            ("ScaledObject", "spec.triggers.0.metadata"),
            ("ScaledObject", "spec.triggers.0.authenticationRef.name"),
            ("TriggerAuthentication", "spec.podIdentity.provider"),
            ("PodMonitoring", "spec.endpoints.0.port"),
            ("PodMonitoring", "spec.endpoints.0.interval"),
            ("PodMonitoring", "spec.selector"),
        ):
            self.assertIn((kind, path), missed)
        for kind in {thing["kind"] for thing in self.things}:
            for field in ("apiVersion", "kind", "metadata"):
                self.assertIn((kind, field), missed)


class Extraction(unittest.TestCase):
    """What extract_schema.py takes out of its sources, on small ones."""

    def test_the_schema_was_made_of_what_is_pinned(self):
        sources = (extract_schema.WHEEL, *extract_schema.DEFINITIONS)
        made_of = json.loads(schema.SCHEMA.read_text())["origin"]
        self.assertEqual(made_of, {source.spec: source.sha256 for source in sources})

    def test_a_file_of_a_repository_is_fetched_at_its_commit(self):
        with tempfile.TemporaryDirectory() as folder:
            repository, into = Path(folder) / "repository", Path(folder) / "into"
            repository.mkdir()

            def git(*command):
                names = ("-c", "user.name=n", "-c", "user.email=e@example.com")
                return subprocess.run(
                    ["git", *names, *command], cwd=repository, check=True, capture_output=True, text=True
                ).stdout.strip()

            git("init", "--quiet")
            commits = []
            for text in ("former\n", "latter\n"):
                (repository / "kind.yaml").write_text(text)
                git("add", "kind.yaml")
                git("commit", "--quiet", "--message=one")
                commits.append(git("rev-parse", "HEAD"))
            digest = hashlib.sha256(b"former\n").hexdigest()
            download = Download("git", f"{repository} {commits[0]} kind.yaml", "kind.yaml", digest)
            said = []
            placed = files.obtain(download, into, extract_schema.fetch_with_git, said.append)
            self.assertEqual(placed.read_text(), "former\n")
            other = Download("git", f"{repository} {commits[1]} kind.yaml", "other.yaml", digest)
            with self.assertRaisesRegex(files.SetupError, "wrong twice"):
                files.obtain(other, into, extract_schema.fetch_with_git, said.append)

    def test_what_does_not_decide_is_left_out_and_nothing_may_be_null(self):
        made = extract_schema.reduced(
            {
                "type": ["object", "null"],
                "description": "words",
                "properties": {
                    "description": {"type": "string", "format": "int32", "x-kubernetes-validations": []},
                    "every": {"type": "string", "format": "duration"},
                    "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
                },
            }
        )
        self.assertEqual(
            extract_schema.closed(made),
            {
                "type": "object",
                "additionalProperties": False,
                "properties": {
                    "description": {"type": "string"},
                    "every": {"type": "string", "pattern": "^([0-9]+(ms|s|m|h|d|w|y))+$"},
                    "free": {"type": "object", "additionalProperties": True},
                },
            },
        )


if __name__ == "__main__":
    unittest.main()
