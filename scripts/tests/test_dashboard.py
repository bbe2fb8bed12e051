"""The Grafana dashboard: written by its script, of Grafana's own schema, and found by its provisioning."""

import copy
import json
import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "scripts"))

from provision import pins
from yaml_file import documents

FOLDER = ROOT / "monitoring"
GRAFANA = ROOT / ".cache" / pins.GRAFANA.path
PROVISIONING = ROOT / "deploy" / "grafana" / "provisioning"

# Fields of a marker that belong to the data source for Prometheus; the schema of 10.1 has room for them and
# no names.
OF_PROMETHEUS = {"step", "titleFormat", "textFormat", "useValueForTime"}


def read_by_grafana(dashboard):
    """The dashboard as Grafana's types read and write it: what they do not know is lost."""
    sys.path.insert(0, str(GRAFANA))
    from grafana_foundation_sdk.cog.encoder import JSONEncoder
    from grafana_foundation_sdk.cog.plugins import register_default_plugins
    from grafana_foundation_sdk.models.dashboard import Dashboard

    register_default_plugins()
    return json.loads(JSONEncoder().encode(Dashboard.from_json(copy.deepcopy(dashboard))))


def lost(written, known, place=""):
    """The fields of `written` that `known` lacks or has otherwise. Defaults may have been added."""
    if isinstance(written, dict) and isinstance(known, dict):
        return [
            fault
            for name, value in written.items()
            for fault in (
                lost(value, known[name], f"{place}/{name}") if name in known else [f"{place}/{name}"]
            )
        ]
    if isinstance(written, list) and isinstance(known, list) and len(written) == len(known):
        return [fault for n, (a, b) in enumerate(zip(written, known)) for fault in lost(a, b, f"{place}/{n}")]
    return [] if written == known else [place]


def unknown_to_grafana(dashboard):
    faults = lost(dashboard, read_by_grafana(dashboard))
    markers = tuple(f"/annotations/list/{n}/{name}" for n in range(9) for name in OF_PROMETHEUS)
    return [fault for fault in faults if fault not in markers]


class Written(unittest.TestCase):
    def run_in_a_copy(self, *arguments, mistake=""):
        """Runs the script beside a copy of the file; its exit status, what it said, and the file's text."""
        with tempfile.TemporaryDirectory() as folder:
            copy_of = Path(folder) / "monitoring"
            shutil.copytree(FOLDER, copy_of, ignore=shutil.ignore_patterns("__pycache__"))
            file = copy_of / "dashboard.json"
            file.write_text(file.read_text() + mistake)
            command = [sys.executable, "-B", str(copy_of / "dashboard.py"), *arguments]
            result = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            return result.returncode, result.stdout, file.read_text()

    def test_the_file_is_what_the_script_writes(self):
        self.assertEqual(self.run_in_a_copy("--check")[:2], (0, ""))

    def test_a_file_that_was_changed_by_hand_is_told_and_written_again(self):
        status, said, _ = self.run_in_a_copy("--check", mistake=" ")
        self.assertEqual(status, 1)
        self.assertIn("dashboard.json is not what monitoring/dashboard.py writes", said)
        status, _, text = self.run_in_a_copy(mistake=" ")
        self.assertEqual((status, text), (0, (FOLDER / "dashboard.json").read_text()))


@unittest.skipIf(sys.version_info < (3, 11), "Grafana's types for Python need 3.11: the schema is NOT checked")
class Schema(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.dashboard = json.loads((FOLDER / "dashboard.json").read_text())

    def test_grafana_knows_every_field(self):
        self.assertEqual(unknown_to_grafana(self.dashboard), [])

    def test_a_field_that_grafana_does_not_know_is_found(self):
        def change(at, name, value):
            changed = copy.deepcopy(self.dashboard)
            there = changed
            for step in at:
                there = there[step]
            there[name] = value
            return unknown_to_grafana(changed)

        for at, name in (
            ([], "refreshing"),
            (["panels", 1], "descripton"),
            (["panels", 1, "targets", 0], "legend"),
            (["panels", 1, "options"], "colourMode"),
            (["panels", 10, "fieldConfig", "defaults", "custom"], "linewidth"),
            (["panels", 1, "fieldConfig", "defaults"], "units"),
            (["templating", "list", 1], "querry"),
        ):
            place = "".join(f"/{step}" for step in [*at, name])
            self.assertEqual(change(at, name, "x"), [place])
        self.assertEqual(change(["panels", 1], "gridPos", {"x": 0, "y": 0, "wide": 3}), ["/panels/1/gridPos/wide"])


class Provisioning(unittest.TestCase):
    def read(self, path):
        (settings,) = documents(path.read_text())
        return settings

    def test_the_dashboard_is_loaded_from_a_file(self):
        files = list((PROVISIONING / "dashboards").iterdir())
        self.assertEqual([file.name for file in files], ["cutout.yaml"])
        settings = self.read(files[0])
        self.assertEqual(settings["apiVersion"], 1)
        (provider,) = settings["providers"]
        self.assertEqual(provider["type"], "file")
        # The page that says where to put things names the same place.
        named = provider["options"]["path"] in (ROOT / "docs" / "operations.md").read_text()
        self.assertTrue(named, "docs/operations.md does not name the folder")

    def test_every_data_source_is_one_that_the_dashboard_can_ask(self):
        files = sorted((PROVISIONING / "datasources").iterdir())
        self.assertEqual([file.name for file in files], ["google.yaml", "prometheus.yaml"])
        sources = [source for file in files for source in self.read(file)["datasources"]]
        self.assertEqual([source["type"] for source in sources], ["prometheus", "prometheus"])
        self.assertEqual(len({source["uid"] for source in sources}), 2)
        self.assertEqual(len([source for source in sources if source.get("isDefault")]), 1)


if __name__ == "__main__":
    unittest.main()
