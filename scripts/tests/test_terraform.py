"""The check of the Terraform code: the real files pass, and each deliberate mistake in a copy is caught.

Also the table of the seed deployment's settings in docs/deploy.md, held to the files.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import check_cloudbuild
from terraform import check, hcl, stand_in

ROOT = check.ROOT
MODULE = ROOT / "terraform" / "modules" / "cutout"
SCRIPT = ROOT / "scripts" / "check-terraform.sh"


class RealFiles(unittest.TestCase):
    def test_the_files_as_they_are_have_no_fault(self):
        self.assertEqual(check.faults(ROOT / "terraform"), [])

    def test_every_resource_is_in_the_schema_and_the_schema_has_none_that_is_not_used(self):
        used = {
            (block.kind, block.labels[0])
            for blocks in check.load(ROOT / "terraform").values()
            for block in blocks
            if block.kind in ("resource", "data")
        }
        schema = check.json.loads(check.SCHEMA.read_text())
        known = {(kind, name) for kind in ("resource", "data") for name in schema[kind]}
        self.assertEqual(used, known)

    def test_the_workers_variables_are_found_in_its_source(self):
        found = check.worker_variables()
        for name in ("PORT", "STORAGE_BUCKET", "INSPIRENET_MODE", "CUTOUT_PUSH_AUDIENCE", "LOG_LEVEL"):
            self.assertIn(name, found)
        self.assertGreater(len(found), 50)
        self.assertLessEqual(check.NOT_IN_THE_CLOUD, found)


class Mistakes(unittest.TestCase):
    """Each changes one place of a copy; the check must say what is wrong there, and nothing else."""

    def check(self, file, old, new, *said, count=1):
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder) / "terraform"
            shutil.copytree(ROOT / "terraform", copy)
            path = copy / file
            text = path.read_text()
            self.assertIn(old, text, f"{file} has changed: adapt this test")
            path.write_text(text.replace(old, new, 1))
            faults = check.faults(copy)
        self.assertEqual(len(faults), count, "\n".join(faults))
        for words in said:
            self.assertTrue(any(words in fault for fault in faults), f"{words!r} not in {faults}")
        self.assertRegex(faults[0], r"\.tf:\d+: ")

    def module(self, file, *rest, **more):
        self.check(f"modules/cutout/{file}", *rest, **more)

    # The provider's schema

    def test_a_misspelt_argument(self):
        self.module(
            "pubsub.tf",
            "enable_exactly_once_delivery = ",
            "enable_exactly_once_deliveries = ",
            "has no argument enable_exactly_once_deliveries: enable_exactly_once_delivery?",
        )

    def test_a_misspelt_argument_deep_inside(self):
        self.module(
            "worker_pool.tf",
            "failure_threshold = 24",
            "failure_treshold = 24",
            "template.containers.startup_probe has no argument failure_treshold",
        )

    def test_a_misspelt_block(self):
        self.module(
            "worker_pool.tf",
            "startup_probe {",
            "startup_probes {",
            "has no block startup_probes: startup_probe?",
        )

    def test_a_misspelt_argument_in_what_a_dynamic_block_makes(self):
        self.module(
            "worker_pool.tf",
            "accelerator = node",
            "accelerators = node",
            "has no argument accelerators",
            "lacks accelerator,",
            count=2,
        )

    def test_an_argument_of_another_release_or_of_the_beta_provider(self):
        self.module(
            "service.tf",
            "invoker_iam_disabled = true",
            "invoker_iam_disabled = true\n  iap_enabled = true",
            "has no argument iap_enabled",
        )

    def test_a_missing_argument(self):
        self.module(
            "storage.tf",
            '  payload_format     = "JSON_API_V1"\n',
            "",
            "lacks payload_format, which is required",
        )

    def test_a_missing_argument_deep_inside(self):
        self.module(
            "pubsub.tf",
            '    ttl = ""\n',
            "",
            "expiration_policy lacks ttl",
            "expires when nobody asks",
            count=2,
        )

    def test_a_missing_block(self):
        self.module(
            "monitoring.tf",
            '  metric_descriptor {\n    metric_kind = "DELTA"\n    value_type  = "DISTRIBUTION"',
            '  metric_descriptor {\n    value_type  = "DISTRIBUTION"',
            "metric_descriptor lacks metric_kind",
        )

    def test_a_value_that_is_not_among_those_allowed(self):
        self.module(
            "monitoring.tf",
            "COMPARISON_GT",
            "COMPARISON_ABOVE",
            "is 'COMPARISON_ABOVE', but may be",
            "COMPARISON_GT",
        )

    def test_a_default_that_is_not_among_those_allowed(self):
        self.module(
            "variables.tf",
            'default     = "INGRESS_TRAFFIC_INTERNAL_ONLY"',
            'default     = "INGRESS_INTERNAL"',
            "is 'INGRESS_INTERNAL', but may be",
            "open to the internet",
            count=2,
        )

    def test_a_text_for_a_number_and_a_list_for_a_text(self):
        self.module(
            "pubsub.tf",
            "ack_deadline_seconds       = 60",
            'ack_deadline_seconds       = "60s"',
            "is a number, not '60s'",
        )
        self.module(
            "storage.tf",
            'event_types        = ["OBJECT_FINALIZE"]',
            'event_types        = "OBJECT_FINALIZE"',
            "is a list",
        )
        self.module("registry.tf", 'format        = "DOCKER"', 'format        = ["DOCKER"]', "is one value")

    def test_a_block_written_as_an_argument_and_given_twice(self):
        self.module("worker_pool.tf", "  scaling {", "  scaling = {", "scaling is a block")
        self.module(
            "pubsub.tf",
            "  retry_policy {",
            '  retry_policy {\n    minimum_backoff = "1s"\n  }\n\n  retry_policy {',
            "takes one block retry_policy",
        )

    def test_a_resource_that_does_not_exist(self):
        self.module(
            "budget.tf",
            '"google_billing_budget"',
            '"google_billing_budgets"',
            "google_billing_budgets is not in schema.json",
        )

    def test_a_file_that_is_not_hcl(self):
        self.module("registry.tf", 'format        = "DOCKER"', 'format        "DOCKER"', "not HCL")

    # References

    def test_a_variable_that_nobody_declared(self):
        self.module("registry.tf", "var.region", "var.regoin", "var.regoin is not declared: region?")

    def test_a_variable_inside_a_text_that_nobody_declared(self):
        self.module("iam.tf", '"${var.name}-worker"', '"${var.nane}-worker"', "var.nane is not declared")

    def test_a_variable_that_nobody_uses(self):
        self.module(
            "settings.tf",
            "LOG_LEVEL       = var.log_level",
            'LOG_LEVEL       = "info"',
            "variable log_level is not used",
        )

    def test_a_variable_without_description_or_type(self):
        self.check(
            "examples/minimal/variables.tf",
            '  description = "The Google Cloud project."\n',
            "",
            "variable project_id has no description",
        )
        self.check(
            "examples/minimal/variables.tf", "  type        = string\n", "", "variable project_id has no type"
        )

    def test_a_local_and_a_resource_that_do_not_exist(self):
        self.module(
            "worker_pool.tf", "limits = local.limits", "limits = local.limit", "local.limit is not declared"
        )
        self.module(
            "worker_pool.tf",
            "google_service_account.worker.email",
            "google_service_account.works.email",
            "google_service_account.works is not here",
        )

    def test_what_a_resource_does_not_tell(self):
        self.module(
            "outputs.tf",
            "google_service_account.worker.email",
            "google_service_account.worker.mail",
            "google_service_account.worker has no mail: email?",
        )

    def test_what_the_provider_tells_and_nobody_sets(self):
        self.module(
            "registry.tf",
            'format        = "DOCKER"',
            'format        = "DOCKER"\n  create_time = "now"',
            "create_time is told by the provider",
        )

    def test_each_without_for_each(self):
        self.module(
            "iam.tf",
            "  for_each = var.publishers\n",
            "  count = length(var.publishers)\n",
            "each.value without for_each",
        )

    def test_a_module_called_with_what_it_does_not_take_and_without_what_it_needs(self):
        self.check(
            "examples/production/main.tf",
            "concurrency       = 10",
            "concurency        = 10",
            "has no variable concurency: concurrency?",
        )
        self.check(
            "examples/minimal/main.tf", "  region     = var.region\n  image", "  image", "lacks region"
        )
        self.check(
            "examples/minimal/outputs.tf",
            "module.cutout.results_bucket",
            "module.cutout.result_bucket",
            "has no output result_bucket",
        )

    # The worker's settings

    def test_an_environment_variable_that_the_worker_does_not_read(self):
        self.module(
            "settings.tf",
            "CUTOUT_MAX_JOBS ",
            "CUTOUT_MAX_JOB ",
            "the worker reads no CUTOUT_MAX_JOB:",
            "let var.environment take it",
            count=2,
        )

    def test_an_environment_variable_in_an_example_that_the_worker_does_not_read(self):
        self.check(
            "examples/production/main.tf",
            "concurrency       = 10",
            "concurrency       = 10\n  environment = { CUTOUT_MAX_PIXEL = 5 }",
            "the worker reads no CUTOUT_MAX_PIXEL",
        )

    def test_the_list_of_further_settings_that_lacks_one_or_takes_one_twice(self):
        self.module(
            "variables.tf",
            '      "CUTOUT_MAX_PIXELS",\n',
            "",
            "the worker reads CUTOUT_MAX_PIXELS: let var.environment take it",
        )
        self.module(
            "variables.tf",
            '      "CUTOUT_MAX_PIXELS",\n',
            '      "CUTOUT_MAX_PIXELS",\n      "CUTOUT_INGRESS",\n',
            "CUTOUT_INGRESS has a variable of its own",
        )
        self.module(
            "variables.tf",
            '      "CUTOUT_MAX_PIXELS",\n',
            '      "CUTOUT_MAX_PIXELS",\n      "PORT",\n',
            "PORT is not to be set in the cloud",
        )
        self.module(
            "variables.tf",
            "OTEL_TRACES_SAMPLER_ARG",
            "OTEL_TRACES_SAMPLER_ARGS",
            "the worker reads no OTEL_TRACES_SAMPLER_ARGS: OTEL_TRACES_SAMPLER_ARG?",
            "the worker reads OTEL_TRACES_SAMPLER_ARG: let",
            count=2,
        )

    # Our own rules

    def test_something_for_everybody(self):
        self.module("iam.tf", "member  = each.value", 'member  = "allUsers"', "gives something to everybody")
        self.module(
            "iam.tf",
            "member  = each.value",
            'member  = "allAuthenticatedUsers"',
            "gives something to everybody",
        )

    def test_a_bucket_that_could_be_public(self):
        self.module(
            "storage.tf",
            '  public_access_prevention    = "enforced"\n',
            "",
            'needs public_access_prevention = "enforced"',
        )
        self.module(
            "storage.tf",
            'public_access_prevention    = "enforced"',
            'public_access_prevention    = "inherited"',
            "public_access_prevention",
        )

    def test_a_bucket_whose_objects_have_permissions_of_their_own(self):
        self.module(
            "storage.tf",
            "uniform_bucket_level_access = true",
            "uniform_bucket_level_access = false",
            "needs uniform_bucket_level_access = true",
        )

    def test_a_bucket_that_is_deleted_with_its_photos(self):
        self.module(
            "storage.tf",
            "force_destroy               = var.force_destroy",
            "force_destroy               = true",
            "would be deleted with all that it holds",
        )
        self.module(
            "variables.tf",
            'hold photos. Leave it false wherever photos matter."\n  type        = bool\n  default     = false',
            'hold photos. Leave it false wherever photos matter."\n  type        = bool\n  default     = true',
            "would be deleted with all that it holds",
            count=3,
        )

    def test_a_role_that_is_too_wide(self):
        for role, said in (
            ("roles/owner", "nearly everything"),
            ("roles/editor", "nearly everything"),
            ("roles/pubsub.admin", "no administrators"),
            ("roles/storage.objectAdmin", "no administrators"),
            ("roles/pubsub.*", "no wildcards"),
        ):
            self.module("iam.tf", '"roles/storage.objectViewer"', f'"{role}"', said)

    def test_a_role_on_the_whole_project(self):
        self.module("iam.tf", '"roles/monitoring.viewer"', '"roles/pubsub.publisher"', "on the whole project")

    def test_a_role_of_the_build_account_that_is_too_wide(self):
        self.module("build.tf", '"roles/storage.objectViewer"', '"roles/storage.admin"', "no administrators")
        self.module("build.tf", '"roles/artifactregistry.writer"', '"roles/artifactregistry.repoAdmin"', "no admin")
        self.module(
            "build.tf", '"roles/logging.logWriter"', '"roles/cloudbuild.builds.builder"', "on the whole project"
        )
        # Only as itself is the exception one.
        self.module(
            "build.tf", '"roles/ondemandscanning.admin"', '"roles/artifactregistry.admin"', "no administrators"
        )

    def test_workers_without_an_account_of_their_own(self):
        self.module(
            "worker_pool.tf",
            "    service_account = google_service_account.worker.email\n",
            "",
            "runs as the project's default account",
        )

    def test_a_service_that_is_open_by_default(self):
        self.module(
            "service.tf",
            "ingress = var.service_ingress",
            'ingress = "INGRESS_TRAFFIC_ALL"',
            "open to the internet",
        )
        self.module(
            "autoscaling.tf",
            'ingress = "INGRESS_TRAFFIC_INTERNAL_ONLY"',
            'ingress = "INGRESS_TRAFFIC_ALL"',
            "open to the internet",
        )

    def test_a_subscription_that_expires(self):
        self.module(
            "pubsub.tf",
            '  expiration_policy {\n    ttl = ""\n',
            '  expiration_policy {\n    ttl = "86400s"\n',
            "expires when nobody asks",
        )


class Builds(unittest.TestCase):
    """cloudbuild.yaml names by default what the module makes, and the module sets what it has."""

    def setUp(self):
        self.blocks = check.load(ROOT / "terraform")[MODULE.resolve()]
        self.substitutions = check_cloudbuild.load((ROOT / "cloudbuild.yaml").read_text())["substitutions"]

    def of(self, kind, name, attribute):
        (found,) = [block for block in self.blocks if block.labels == (kind, name)]
        return self.template(found.attributes[attribute])

    def local(self, name):
        (found,) = [block for block in self.blocks if block.kind == "locals" and name in block.attributes]
        return found.attributes[name]

    def template(self, value):
        """A text of Terraform's as Cloud Build would write it: both have ${…}."""
        text = re.sub(r"^(var\.\w+)$", r"${\1}", value.text.strip('"'))
        named = {"project_id": "PROJECT_ID", "region": "_REGION", "name": "_NAME"}
        return re.sub(r"\$\{var\.(\w+)\}", lambda match: "${" + named[match[1]] + "}", text)

    def test_the_defaults_are_what_the_module_makes(self):
        for substitution, repository in (("_IMAGE", "images"), ("_CACHE", "cache")):
            of = ("google_artifact_registry_repository", repository)
            place = f"{self.of(*of, 'location')}-docker.pkg.dev/{self.of(*of, 'project')}"
            self.assertEqual(
                self.substitutions[substitution], f"{place}/{self.of(*of, 'repository_id')}/worker"
            )
        bucket = self.template(self.local("builds_bucket"))
        self.assertEqual(self.of("google_storage_bucket", "builds", "name"), "local.builds_bucket")
        self.assertEqual(self.substitutions["_BILLS"], f"gs://{bucket}/sbom")
        (name,) = [block for block in self.blocks if block.labels == ("name",)]
        self.assertEqual(self.substitutions["_NAME"], name.attributes["default"].constant)

    def test_the_command_sets_substitutions_that_are_there(self):
        given = {name for name, _ in self.local("build_substitutions").keys() if name.startswith("_")}
        self.assertGreater(len(given), 3)
        self.assertLessEqual(given, set(self.substitutions))

    def test_every_network_that_the_command_may_bake_has_a_manifest(self):
        (mode,) = [block for block in self.blocks if block.labels == ("inspyrenet_mode",)]
        modes = re.findall(r'"([\w-]+)"', mode.of("validation")[0].attributes["condition"].text)
        self.assertIn("base", modes)
        for name in (*(f"inspyrenet-{mode}" for mode in modes), self.substitutions["_MODEL"]):
            self.assertTrue((ROOT / "models" / f"{name}.toml").is_file(), name)


class Reading(unittest.TestCase):
    """The reader of Terraform files, on what is easily read wrongly."""

    def expression(self, text):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "x.tf"
            path.write_text(f"locals {{\n  x = {text}\n}}\n")
            return hcl.load(path).blocks[0].attributes["x"]

    def test_references_are_found_in_code_and_not_in_plain_text(self):
        found = self.expression(
            '"var.plain ${var.real} $${var.escaped} ${join(",", [local.a["x"], "local.b"])}"'
        ).references()
        self.assertTrue({"var.real", "local.a"} <= {re.sub(r"\[.*", "", name) for name in found}, found)
        self.assertFalse(found & {"var.plain", "var.escaped", "local.b"}, found)

    def test_comments_are_no_references(self):
        found = self.expression(
            "[\n    # it's var.old, \"quoted\n    var.new, // var.other\n  ]"
        ).references()
        self.assertEqual({name for name in found if name.startswith("var.")}, {"var.new"})

    def test_sums_in_objects_end_with_their_line(self):
        value = self.expression("{\n    a = 1 * 2\n    b = var.c\n  }")
        self.assertEqual([name for name, _ in value.keys()], ["a", "b"])

    def test_constants(self):
        for text, value in (
            ('"a"', "a"),
            ("7", 7),
            ("0.5", 0.5),
            ("true", True),
            ('"${var.a}"', None),
            ("var.a", None),
            ('""', ""),
        ):
            self.assertEqual(self.expression(text).constant, value)


def seed_settings():
    """The seed deployment's settings as the Terraform code has them: what docs/deploy.md's table must say."""
    blocks = check.load(ROOT / "terraform")[MODULE.resolve()]

    def one(kind, *labels):
        (found,) = [block for block in blocks if block.kind == kind and block.labels == labels]
        return found

    def default(name):
        return one("variable", name).attributes["default"].constant

    def container(resource):
        (template,) = one("resource", resource, "worker").of("template")
        (found,) = template.of("containers")
        return found

    def probe(resource, kind):
        (found,) = container(resource).of(kind)
        (get,) = found.of("http_get")
        seconds = found.attributes["period_seconds"].constant * found.attributes["failure_threshold"].constant
        return get.attributes["path"].constant, seconds

    settings = next(block for block in blocks if block.kind == "locals" and "sizes" in block.attributes)
    sizes = dict(settings.attributes["sizes"].keys())
    size = {name: value.text for name, value in sizes[default("size")].keys()}
    environment = dict(settings.attributes["worker_environment"].keys())
    pool, service = "google_cloud_run_v2_worker_pool", "google_cloud_run_v2_service"
    resources = container(service).of("resources")[0].attributes
    template = one("resource", service, "worker").of("template")[0]

    def accelerator(resource):
        (template,) = one("resource", resource, "worker").of("template")
        return re.search(r'"([^"]+)"', template.of("node_selector")[0].goes_through.text)[1]

    def of_variable(name, variable):
        assert f"var.{variable}" in environment[name].text, name
        return str(default(variable))

    both = {probe(pool, "startup_probe"), probe(service, "startup_probe")}
    assert len(both) == 1, both
    alive = {probe(pool, "liveness_probe")[0], probe(service, "liveness_probe")[0]}
    assert len(alive) == 1, alive
    cards = {accelerator(pool), accelerator(service)} if size["gpu"] == "true" else {"none"}
    assert template.attributes["max_instance_request_concurrency"].text == "var.concurrency"
    return {
        "CPU": size["cpu"],
        "memory": f"{size['memory_gib']} GiB",
        "GPU": ", ".join(cards),
        "instances, at least": str(default("min_instances")),
        "instances, at most": str(default("max_instances")),
        "concurrency": of_variable("CUTOUT_MAX_JOBS", "concurrency"),
        "time-out": of_variable("CUTOUT_JOB_TIMEOUT", "job_timeout_seconds") + " s",
        "startup probe": "{}, {} s".format(*both.pop()),
        "liveness probe": alive.pop(),
        "CPU boost": {"true": "on"}.get(resources["startup_cpu_boost"].text, "off"),
        "`STORAGE_BUCKET`": (
            "the results bucket" if environment["STORAGE_BUCKET"].text == "local.results_bucket" else "?"
        ),
        "`INSPIRENET_MODE`": of_variable("INSPIRENET_MODE", "inspyrenet_mode"),
        "`INSPIRENET_RESIZE`": of_variable("INSPIRENET_RESIZE", "inspyrenet_resize"),
        "`TARGET_SIZE`": of_variable("TARGET_SIZE", "target_size"),
        "`LOG_LEVEL`": of_variable("LOG_LEVEL", "log_level"),
    }


class Documentation(unittest.TestCase):
    def setUp(self):
        self.text = (ROOT / "docs" / "deploy.md").read_text()

    def table(self, heading):
        section = self.text.split(f"## {heading}\n", 1)[1].split("\n## ", 1)[0]
        rows = [
            [cell.strip() for cell in line.strip("|").split("|")]
            for line in section.splitlines()
            if line.startswith("|")
        ]
        return rows[2:]

    def test_the_seed_deployments_settings_stand_in_terraform_as_the_table_says(self):
        rows = self.table("The seed deployment's settings")
        self.assertEqual({row[0]: row[1] for row in rows}, seed_settings())

    def test_the_places_that_the_table_names_are_there(self):
        blocks = check.load(ROOT / "terraform")[MODULE.resolve()]
        variables = {block.labels[0] for block in blocks if block.kind == "variable"}
        for row in self.table("The seed deployment's settings"):
            files = re.findall(r"`(\w+\.tf)`", row[2])
            named = re.findall(r"`([a-z_]+)`", row[2])
            self.assertTrue(files, row)
            for file in files:
                self.assertTrue((MODULE / file).is_file(), row)
            for name in named:
                source = "".join((MODULE / file).read_text() for file in files)
                self.assertTrue(name in variables or name in source, row)

    def test_the_variables_that_the_page_sets_exist(self):
        blocks = check.load(ROOT / "terraform")
        known = {
            block.labels[0] for module in blocks.values() for block in module if block.kind == "variable"
        }
        for name in re.findall(r"-var[ =]'?([a-z_]+)=", self.text):
            self.assertIn(name, known)

    def test_the_files_that_the_page_links_to_exist(self):
        for link in re.findall(r"\]\(([^)#]+)\)", self.text):
            if not link.startswith("http"):
                self.assertTrue((ROOT / "docs" / link).exists(), link)


class Script(unittest.TestCase):
    """scripts/check-terraform.sh with a stand-in terraform."""

    def run_script(self, terraform=None, **settings):
        with tempfile.TemporaryDirectory() as folder:
            tools = Path(folder)
            for name in ("bash", "env", "dirname", "mktemp", "rm", "cp", "cat", "sh"):
                (tools / name).symlink_to(shutil.which(name))
            if terraform is not None:
                (tools / "terraform").write_text(f'#!/bin/sh\necho "terraform $*"\n{terraform}\n')
                (tools / "terraform").chmod(0o755)
            environment = {**os.environ, "PATH": str(tools), "PYTHON": sys.executable, **settings}
            result = subprocess.run(
                [SCRIPT], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
            )
        return result.returncode, result.stdout

    def test_the_files_are_formatted_validated_and_tested_with_terraform(self):
        status, said = self.run_script("echo $TF_REATTACH_PROVIDERS")
        self.assertEqual(status, 0, said)
        self.assertIn("terraform fmt -check -diff -recursive terraform", said)
        for folder in ("examples/minimal", "examples/production", "modules/cutout"):
            self.assertRegex(said, rf"terraform -chdir=\S+/terraform/{folder} validate -no-color")
        self.assertRegex(said, r"terraform -chdir=\S+/terraform/modules/cutout test -no-color")
        self.assertIn("registry.terraform.io/hashicorp/google", said)

    def test_a_fault_that_terraform_finds_fails(self):
        self.assertEqual(self.run_script('case "$*" in fmt*) exit 3; esac')[0], 3)
        for command in ("init", "validate", "test"):
            self.assertEqual(self.run_script(f'case "$*" in *" {command} "*) exit 1; esac')[0], 1, command)

    def test_without_terraform_it_says_loudly_what_was_not_checked(self):
        status, said = self.run_script()
        self.assertEqual(status, 0, said)
        self.assertIn("NOT formatted, validated, tested", said)
        self.assertEqual(self.run_script(CUTOUT_REQUIRE_TERRAFORM="1")[0], 1)


class StandIn(unittest.TestCase):
    """What Terraform takes for Google's provider."""

    def test_it_knows_every_resource_and_does_nothing_with_them(self):
        answer = stand_in.answers()
        schema = answer("/tfplugin5.Provider/GetSchema", b"")
        for name in (b"google_cloud_run_v2_worker_pool", b"google_project", b"startup_probe", b"uri"):
            self.assertIn(name, schema)
        self.assertEqual(answer("/tfplugin5.Provider/PrepareProviderConfig", b"x"), b"x")
        self.assertEqual(answer("/tfplugin5.Provider/ValidateResourceTypeConfig", b"x"), b"")
        for call in ("/tfplugin5.Provider/ApplyResourceChange", "/plugin.GRPCStdio/StreamStdio"):
            self.assertIsNone(answer(call, b""))

    def test_messages_are_written_as_protobuf_has_them(self):
        self.assertEqual(stand_in.varint(300), b"\xac\x02")
        self.assertEqual(stand_in.number(3, 0), b"")
        self.assertEqual(stand_in.data(1, b"ab"), b"\x0a\x02ab")
        optional = {"kind": "map", "many": False, "required": False}
        written = stand_in.attribute("labels", optional)
        self.assertEqual(written, b'\x0a\x06labels\x12\x11["map", "string"]\x28\x01')

    @unittest.skipUnless(shutil.which("terraform"), "there is no terraform on this machine")
    def test_terraform_finds_with_it_what_the_files_alone_do_not_tell(self):
        """A circle of resources."""
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder) / "cutout"
            shutil.copytree(MODULE, copy)
            topics = copy / "pubsub.tf"
            text = topics.read_text().replace(
                "name    = local.topics.results\n  labels",
                "name    = google_pubsub_subscription.results.name\n  labels",
                1,
            )
            topics.write_text(text)
            self.assertEqual(check.faults(copy), [])
            for command in (["init", "-backend=false", "-input=false"], ["validate"]):
                result = subprocess.run(
                    [
                        sys.executable,
                        "-m",
                        "terraform.stand_in",
                        "terraform",
                        f"-chdir={copy}",
                        *command,
                        "-no-color",
                    ],
                    cwd=ROOT / "scripts",
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    text=True,
                )
        self.assertEqual(result.returncode, 1, result.stdout)
        self.assertIn("Cycle", result.stdout)


if __name__ == "__main__":
    unittest.main()
