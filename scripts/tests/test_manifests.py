"""The check of the manifests for GKE: the real files pass, and each deliberate mistake in a copy is caught."""

import re
import shutil
import sys
import tempfile
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from terraform import check, manifests

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
            "monitoring.yaml", "kind: PodMonitoring", "kind: PodMonitor", "one PodMonitoring, and there are 0"
        )

    def test_a_selector_that_selects_nothing(self):
        name = "app.kubernetes.io/name: cutout-worker"
        for file, what in (("network.yaml", "NetworkPolicy"), ("monitoring.yaml", "PodMonitoring")):
            self.mistake(file, name, name + "s", f"the {what}'s selector")

    def test_a_setting_that_the_worker_does_not_read(self):
        self.mistake("settings.yaml", "LOG_LEVEL: info", "LOGLEVEL: info", "the worker reads no LOGLEVEL")

    def test_a_setting_that_is_no_text(self):
        self.mistake("settings.yaml", 'TARGET_SIZE: "1024"', "TARGET_SIZE: 1024", "put it in quotation marks")

    def test_another_subscription_than_the_workers(self):
        self.mistake("autoscaling.yaml", "subscriptions/cutout-jobs", "subscriptions/cutout-job", "scaled by")
        self.mistake("settings.yaml", "PROJECT: my-project", "PROJECT: other", "scaled by")

    def test_a_target_that_jobs_in_work_reach(self):
        self.mistake("autoscaling.yaml", 'value: "350"', 'value: "20"', "above twice CUTOUT_MAX_JOBS")
        self.mistake("autoscaling.yaml", 'value: "350"', "value: 350", "must be a text")

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
        self.mistake("network.yaml", "port: 443", "port: 444", "lets out")

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

    def test_terraform_and_these_files_give_workers_the_same_settings(self):
        module = check.load(check.ROOT / "terraform")[(check.ROOT / "terraform/modules/cutout").resolve()]
        (settings,) = [b for b in module if b.kind == "locals" and "worker_environment" in b.attributes]
        in_terraform = check.environment_names(settings.attributes["worker_environment"])
        here = set(manifests.read(FOLDER / "settings.yaml")[0]["data"])
        self.assertLessEqual(here, in_terraform)
        # Those that only some deployments have.
        optional = r"CUTOUT_(PUSH_.*|HTTP_API|CLIENT_IP|CORS_ORIGINS|UPLOAD_PREFIX)"
        self.assertEqual({name for name in in_terraform - here if not re.fullmatch(optional, name)}, set())


if __name__ == "__main__":
    unittest.main()
