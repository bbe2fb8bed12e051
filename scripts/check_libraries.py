#!/usr/bin/env python3
"""Walks the shared libraries of an image: is everything there that they need and load?

    check_libraries.py ROOT [--library-path /opt/cutout/lib]... [--must NAME]... [--quiet]

ROOT is the image's file system (a mounted image, or an unpacked one). Walked are the program and
every library below /opt/cutout. Four things must hold, by the ELF files alone:

1. each library that a file names (DT_NEEDED) is found inside, where ld.so would look for it;
2. each version that it asks of that library (GLIBC_2.34) is one that the library defines;
3. each symbol that it cannot do without is defined by the libraries that come with it;
4. each library whose name stands in its text, because it loads that when used (dlopen), is inside,
   or below in ABSENT with the reason why it may be missing.

What the driver brings is never in an image: DRIVER. Exit code 1 when something is missing.
"""

from __future__ import annotations

import argparse
import mmap
import re
import sys
from dataclasses import dataclass, field
from pathlib import Path

for _wheel in (Path(__file__).resolve().parent.parent / ".cache/lib/python").glob("pyelftools-*.whl"):
    sys.path.insert(0, str(_wheel))
try:
    from elftools.elf.dynamic import DynamicSection
    from elftools.elf.elffile import ELFFile
    from elftools.elf.gnuversions import GNUVerDefSection, GNUVerNeedSection
    from elftools.elf.sections import SymbolTableSection
except ImportError:
    sys.exit("check_libraries: pyelftools is missing: `python3 scripts/setup.py image`")

PROGRAM = "usr/local/bin/cutout"
HOME = "opt/cutout"

# Where ld.so looks on Debian for x86-64, after what a file and the environment name.
SYSTEM = (
    "/lib/x86_64-linux-gnu",
    "/usr/lib/x86_64-linux-gnu",
    "/lib/aarch64-linux-gnu",
    "/usr/lib/aarch64-linux-gnu",
    "/lib64",
    "/usr/lib64",
    "/lib",
    "/usr/lib",
)

DRIVER = {
    "libcuda.so": "the driver's",
    "libcuda.so.1": "the driver's",
    "libnvidia-ml.so": "the driver's",
    "libnvidia-ml.so.1": "the driver's",
}

ABSENT = {
    "libnvJitLink.so.12": "cuFFT loads it for callbacks that are compiled at run time, which ONNX Runtime has none of",
    "libcask_profile_interface.so": "a profiler's, in none of cuDNN's packages",
    "libonnxruntime_providers_": "one of the providers that this image is not for",
    "libopenvino_auto": "OpenVINO's choice among devices: the worker names the CPU",
    "libopenvino_hetero_plugin.so": "OpenVINO's split among devices: the worker names the CPU",
    "libopenvino_intel_gpu_plugin.so": "OpenVINO's for Intel's cards",
    "libopenvino_intel_npu_plugin.so": "OpenVINO's for Intel's NPUs",
    "libittnotify.so": "Intel's profiler, when it is attached",
    "libtbbmalloc.so.2": "oneTBB's allocator; without it malloc is used",
    "libtbbbind": "oneTBB's pinning of threads to NUMA nodes; without it there is none",
    "libirml.so.1": "Intel's manager of threads among runtimes, used when it is there",
    "libtcm.so.1": "Intel's manager of threads among runtimes, used when it is there",
    "libiomp5.so": "oneTBB looks whether OpenMP is in the process too",
}
"""Libraries that some file here may load and that are left out, by name or by its beginning."""

LOADED = {
    "libonnxruntime.so": ("libonnxruntime_providers_shared.so",),
    "libonnxruntime_providers_openvino.so": ("libopenvino_intel_cpu_plugin.so",),
    "libcudnn.so.9": ("libcudnn_graph.so.9", "libcudnn_ops.so.9", "libcudnn_cnn.so.9", "libcudnn_adv.so.9"),
    "libcudnn_graph.so.9": (
        "libcudnn_engines_precompiled.so.9",
        "libcudnn_engines_runtime_compiled.so.9",
        "libcudnn_heuristic.so.9",
        "libnvrtc.so.12",
    ),
    "libnvrtc.so.12": ("libnvrtc-builtins.so.12",),
}
"""What a library loads by a name that it puts together at run time, so that reading is not enough.
The names are beginnings."""

# A provider's symbols come from these, which ONNX Runtime has loaded before.
BEFORE = re.compile(r"libonnxruntime_providers_(?!shared)\w+\.so$")
SHARED = "libonnxruntime_providers_shared.so"

# Begins with plain letters, by which the regular expression is a search over half a gigabyte.
_NAME = re.compile(rb"lib[A-Za-z0-9_+\-]+\.so(?:\.[0-9]+)*(?=\.?\0)")
_IN_A_NAME = re.compile(rb"[A-Za-z0-9_+.\-/]")


@dataclass
class Library:
    """What an ELF file says of itself."""

    path: str
    needed: list[str] = field(default_factory=list)
    search: list[str] = field(default_factory=list)
    asks: dict[str, set[str]] = field(default_factory=dict)
    versions: set[str] = field(default_factory=set)
    undefined: set[str] = field(default_factory=set)
    defined: set[str] = field(default_factory=set)
    loads: set[str] = field(default_factory=set)

    @property
    def name(self) -> str:
        return self.path.rsplit("/", 1)[-1]


class Image:
    """The file system of an image; links in it lead to places in it, whatever they are outside."""

    def __init__(self, root: Path, library_path: list[str]) -> None:
        self.root = root
        self.library_path = library_path
        self.read: dict[str, Library] = {}

    def file(self, path: str) -> Path | None:
        """The regular file behind a path of the image."""
        parts = [part for part in path.split("/") if part]
        done: list[str] = []
        for _ in range(200):
            if not parts:
                found = self.root.joinpath(*done)
                return found if found.is_file() else None
            part = parts.pop(0)
            if part in (".", ".."):
                done = done[:-1] if part == ".." else done
                continue
            here = self.root.joinpath(*done, part)
            if here.is_symlink():
                target = str(here.readlink())
                done = [] if target.startswith("/") else done
                parts = [piece for piece in target.split("/") if piece] + parts
            else:
                done.append(part)
        return None

    def find(self, name: str, of: Library) -> str | None:
        """Where ld.so finds a library that another asks for."""
        origin = of.path.rsplit("/", 1)[0]
        own = [place.replace("${ORIGIN}", origin).replace("$ORIGIN", origin) for place in of.search]
        for place in (*own, *self.library_path, *SYSTEM):
            if place.startswith("/") and self.file(f"{place}/{name}"):
                return f"{place}/{name}"
        return None

    def library(self, path: str) -> Library:
        if path not in self.read:
            file = self.file(path)
            assert file is not None, f"{path} was found before"
            self.read[path] = read(file, path)
        return self.read[path]

    def with_needed(self, library: Library) -> list[Library]:
        """A library and all that it needs, as far as that is there."""
        found = {library.path: library}
        waiting = [library]
        while waiting:
            current = waiting.pop()
            for name in current.needed:
                path = self.find(name, current)
                if path and path not in found:
                    found[path] = self.library(path)
                    waiting.append(found[path])
        return list(found.values())

    def walked(self) -> list[str]:
        """The paths of the program and of every library that the image brings."""
        paths = [f"/{PROGRAM}"] if self.file(PROGRAM) else []
        for file in sorted((self.root / HOME).rglob("*.so*")):
            if file.is_file() and not file.is_symlink():
                paths.append("/" + file.relative_to(self.root).as_posix())
        return paths


def read(file: Path, path: str) -> Library:
    """Reads an ELF file's dynamic part, and the names of libraries in its text."""
    library = Library(path)
    with file.open("rb") as stream:
        elf = ELFFile(stream)
        for section in elf.iter_sections():
            if isinstance(section, DynamicSection):
                for tag in section.iter_tags():
                    if tag.entry.d_tag == "DT_NEEDED":
                        library.needed.append(tag.needed)
                    elif tag.entry.d_tag in ("DT_RUNPATH", "DT_RPATH"):
                        text = tag.runpath if tag.entry.d_tag == "DT_RUNPATH" else tag.rpath
                        library.search += text.split(":")
            elif isinstance(section, GNUVerNeedSection):
                for needed, versions in section.iter_versions():
                    # A weak version (1 << 1) is asked for only by symbols that may be missing.
                    names = {v.name for v in versions if not v.entry.vna_flags & 2}
                    library.asks.setdefault(needed.name, set()).update(names)
            elif isinstance(section, GNUVerDefSection):
                for _, auxiliaries in section.iter_versions():
                    library.versions.update(aux.name for aux in list(auxiliaries)[:1])
            elif isinstance(section, SymbolTableSection) and section.name == ".dynsym":
                for symbol in section.iter_symbols():
                    info = symbol.entry.st_info
                    if symbol.entry.st_shndx != "SHN_UNDEF":
                        library.defined.add(symbol.name)
                    elif info.bind == "STB_GLOBAL" and symbol.name:
                        library.undefined.add(symbol.name)
        with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as text:
            library.loads = {
                match.group().decode()
                for match in _NAME.finditer(text)
                if not _IN_A_NAME.match(text[match.start() - 1 : match.start()])
            }
    return library


def check(image: Image, musts: list[str]) -> tuple[list[str], list[str]]:
    """What is missing, and what is absent with a reason, a line each.

    `musts` are names that must be there: the provider's, which ONNX Runtime loads by its own choice.
    """
    wrong: list[str] = []
    excused: dict[str, str] = {}
    paths = image.walked()
    if not paths:
        return [f"neither /{PROGRAM} nor a library below /{HOME} is there"], []
    inside = {path.rsplit("/", 1)[-1] for path in paths}
    wrong += [f"{name} is not below /{HOME}" for name in musts if name not in inside]
    for path in paths:
        library = image.library(path)
        for name in library.needed:
            found = image.find(name, library)
            if found is None:
                if name in DRIVER:
                    excused[name] = DRIVER[name]
                    continue
                wrong.append(f"{path} needs {name}, which is nowhere it would be looked for")
                continue
            missing = library.asks.get(name, set()) - image.library(found).versions
            for version in sorted(missing):
                wrong.append(f"{path} needs {version} of {name}, which {found} does not have")
        closure = image.with_needed(library)
        if BEFORE.match(library.name):
            shared = path.rsplit("/", 1)[0] + f"/{SHARED}"
            closure += [image.library(shared)] if image.file(shared) else []
        defined = set().union(*(one.defined for one in closure))
        unresolved = sorted(library.undefined - defined)
        if unresolved:
            shown = ", ".join(unresolved[:5]) + (", …" if len(unresolved) > 5 else "")
            wrong.append(f"{path} needs {len(unresolved)} symbols that nothing defines: {shown}")
        for name in sorted(library.loads - {library.name}):
            if name in library.needed or image.find(name, library) or name in inside:
                continue
            if any(other.startswith(name + ".") for other in inside):
                continue  # a name without its version, completed at run time
            reason = DRIVER.get(name) or next(
                (reason for start, reason in ABSENT.items() if name.startswith(start)), None
            )
            if reason is None:
                wrong.append(f"{path} may load {name}, which is not there, and nobody says why it may be missing")
            else:
                excused[name] = reason
        for start, names in LOADED.items():
            if not library.name.startswith(start):
                continue
            folder = path.rsplit("/", 1)[0]
            for name in names:
                here = {other.rsplit("/", 1)[-1] for other in paths if other.rsplit("/", 1)[0] == folder}
                if start == "libonnxruntime.so" and not any(BEFORE.match(other) for other in here):
                    continue  # ONNX Runtime's own kernels need no provider
                if not any(other == name or other.startswith(name + ".") for other in here):
                    wrong.append(f"{path} loads {name} when used, which is not beside it")
    return wrong, [f"{name}: {reason}" for name, reason in sorted(excused.items())]


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("root", type=Path)
    parser.add_argument("--library-path", action="append", default=[])
    parser.add_argument("--must", action="append", default=[], help="name of a library that must be there")
    parser.add_argument("--quiet", action="store_true", help="no table of what needs what")
    options = parser.parse_args(arguments)
    image = Image(options.root, options.library_path or [f"/{HOME}/lib"])
    wrong, excused = check(image, options.must)
    if not options.quiet:
        for path in image.walked():
            needed = " ".join(image.library(path).needed)
            print(f"libraries: {path} needs {needed or 'nothing'}")
    for line in excused:
        print(f"libraries: absent, {line}")
    for line in wrong:
        print(f"libraries: WRONG: {line}")
    if not wrong:
        print(f"libraries: {len(image.walked())} files, and all that they need and load is there")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
