"""The walk over an image's libraries, with small ones made by the C compiler."""

import contextlib
import io
import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import check_libraries
from check_libraries import Image, check

LIB = "opt/cutout/lib"


class CheckLibraries(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="cutout libraries ")
        self.addCleanup(folder.cleanup)
        self.root = Path(folder.name) / "image"
        (self.root / LIB).mkdir(parents=True)

    def library(self, name, code="", needs=(), flags=(), folder=LIB):
        """Makes a library that needs others and nothing else, not even the C library."""
        file = self.root / folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        command = ["cc", "-shared", "-fPIC", "-nostdlib", "-Wl,--no-as-needed", "-xc", "-"]
        command += ["-o", str(file), f"-Wl,-soname,{name}", *flags]
        # What comes after -xc would be taken for C.
        command += ["-xnone", *(str(self.root / place) for place in needs)]
        subprocess.run(command, input=code.encode(), check=True)
        return file

    def wrong(self, *musts):
        return check(Image(self.root, [f"/{LIB}"]), list(musts))[0]

    def test_an_image_that_is_whole_is_right(self):
        self.library("libbase.so.1", "int base(void) { return 1; }")
        self.library("libtop.so", "int base(void); int top(void) { return base(); }", [f"{LIB}/libbase.so.1"])
        self.assertEqual(self.wrong("libtop.so"), [])

    def test_a_needed_library_that_is_missing_is_named(self):
        base = self.library("libbase.so.1")
        self.library("libtop.so", needs=[f"{LIB}/libbase.so.1"])
        base.unlink()
        (wrong,) = self.wrong()
        self.assertIn(f"/{LIB}/libtop.so needs libbase.so.1", wrong)

    def test_a_library_must_lie_where_it_is_looked_for(self):
        self.library("libbase.so.1", folder=f"{LIB}/elsewhere")
        needs = [f"{LIB}/elsewhere/libbase.so.1"]
        self.library("libtop.so", needs=needs)
        self.assertEqual(len(self.wrong()), 1)
        self.library("libtop.so", needs=needs, flags=["-Wl,-rpath,$ORIGIN/elsewhere"])
        self.assertEqual(self.wrong(), [])

    def test_links_lead_to_places_in_the_image_and_not_outside(self):
        base = self.library("libbase.so.1")
        self.library("libtop.so", needs=[f"{LIB}/libbase.so.1"])
        outside = self.root.parent / "outside.so"
        shutil.move(base, outside)
        base.symlink_to(outside)
        self.assertEqual(len(self.wrong()), 1)
        inside = self.root / "usr/lib/real.so"
        inside.parent.mkdir(parents=True)
        shutil.move(outside, inside)
        base.unlink()
        base.symlink_to("/usr/lib/real.so")
        self.assertEqual(self.wrong(), [])

    def test_a_symbol_that_nothing_defines_is_named(self):
        self.library("libbase.so.1", "int base(void) { return 1; }")
        self.library(
            "libtop.so", "int newer(void); int top(void) { return newer(); }", [f"{LIB}/libbase.so.1"],
            ["-Wl,--unresolved-symbols=ignore-all"],
        )
        (wrong,) = self.wrong()
        self.assertIn("needs 1 symbols that nothing defines: newer", wrong)

    def test_a_weak_symbol_may_be_missing(self):
        self.library("libtop.so", "__attribute__((weak)) int may(void); int top(void) { return may ? may() : 0; }")
        self.assertEqual(self.wrong(), [])

    def test_a_version_that_the_library_does_not_have_is_named(self):
        old, new = (self.root.parent / f"{name}.map" for name in ("old", "new"))
        old.write_text("BASE_1 { global: base; };")
        new.write_text("BASE_1 { }; BASE_2 { global: base; } BASE_1;")
        code = "int base(void) { return 1; }"
        self.library("libbase.so.1", code, flags=[f"-Wl,--version-script={new}"])
        self.library("libtop.so", "int base(void); int top(void) { return base(); }", [f"{LIB}/libbase.so.1"])
        self.assertEqual(self.wrong(), [])
        self.library("libbase.so.1", code, flags=[f"-Wl,--version-script={old}"])
        (wrong,) = self.wrong()
        self.assertIn("needs BASE_2 of libbase.so.1", wrong)

    def test_a_name_in_the_text_must_be_there_or_have_a_reason(self):
        self.library("libtop.so", 'const char *const load = "libextra.so.3";')
        (wrong,) = self.wrong()
        self.assertIn("may load libextra.so.3", wrong)
        self.library("libextra.so.3")
        self.assertEqual(self.wrong(), [])
        self.library("libtop.so", 'const char *const load = "libcuda.so.1";')
        self.assertEqual(self.wrong(), [])

    def test_what_a_library_loads_by_a_name_made_at_run_time_must_be_beside_it(self):
        self.library("libnvrtc.so.12")
        (wrong,) = self.wrong()
        self.assertIn("loads libnvrtc-builtins.so.12 when used", wrong)
        self.library("libnvrtc-builtins.so.12.6")
        self.assertEqual(self.wrong(), [])

    def test_a_provider_takes_symbols_from_the_library_that_was_loaded_before(self):
        code = "int Provider_GetHost(void); int top(void) { return Provider_GetHost(); }"
        ignore = ["-Wl,--unresolved-symbols=ignore-all"]
        self.library("libonnxruntime_providers_cuda.so", code, flags=ignore)
        self.assertEqual(len(self.wrong()), 1)
        self.library(check_libraries.SHARED, "int Provider_GetHost(void) { return 1; }")
        self.assertEqual(self.wrong(), [])

    def test_a_provider_that_must_be_there_is_not_excused(self):
        self.library("libtop.so")
        (wrong,) = self.wrong("libonnxruntime_providers_cuda.so")
        self.assertIn("libonnxruntime_providers_cuda.so is not below", wrong)

    def test_an_empty_image_is_wrong(self):
        with contextlib.redirect_stdout(io.StringIO()) as said:
            self.assertEqual(check_libraries.main([str(self.root)]), 1)
        self.assertIn("WRONG", said.getvalue())


if __name__ == "__main__":
    unittest.main()
