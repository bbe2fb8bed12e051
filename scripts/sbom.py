#!/usr/bin/env python3
"""Writes the bill of materials of an image, as CycloneDX 1.5.

    sbom.py ROOT --version VERSION --revision COMMIT --digest sha256:… --out image.cdx.json

ROOT is the image's file system. Everything is read out of it, nothing out of what was meant to be
in it: the crates from the list that cargo-auditable wrote into the program, libraries and network from the
`baked.json` files of scripts/bake.py (digests are computed again), Debian's packages from its
own records. Crates get the digest of their source from Cargo.lock. The same image gives the same document.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import uuid
import zlib
from collections import Counter
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

import check_libraries  # finds pyelftools
from check_libraries import HOME, PROGRAM, ELFFile
from provision.files import sha256

ROOT = Path(__file__).resolve().parent.parent
SCHEMAS = ROOT / ".cache/schemas"

Component = dict[str, Any]


class SbomError(Exception):
    """What the image lacks."""


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("root", type=Path)
    for name in ("--version", "--revision", "--digest"):
        parser.add_argument(name, required=True)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args(arguments)
    try:
        document = bill(options.root, options.version, options.revision, options.digest)
        validate(document)
    except (SbomError, OSError) as error:
        print(f"sbom: FAILED: {error}")
        return 1
    options.out.write_text(json.dumps(document, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    kinds = Counter(component["bom-ref"].split(":")[1].split("/")[0] for component in document["components"])
    told = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
    print(f"sbom: {options.out}: {told}")
    return 0


def bill(root: Path, version: str, revision: str, digest: str) -> dict[str, Any]:
    """The document."""
    crates, edges = of_crates(root / PROGRAM)
    baked = of_baked(root)
    debian = of_debian(root)
    image: Component = {
        "type": "container",
        "bom-ref": "image",
        "name": "cutout",
        "version": version,
        "licenses": [{"license": {"id": "MIT"}}],
        "hashes": [{"alg": "SHA-256", "content": digest.removeprefix("sha256:")}],
        "properties": [{"name": "org.opencontainers.image.revision", "value": revision}],
    }
    components = [*crates, *baked, *debian]
    top = edges.pop("")
    others = [component["bom-ref"] for component in (*baked, *debian)]
    dependencies = [{"ref": "image", "dependsOn": sorted({*top, *others})}]
    dependencies += [{"ref": ref, "dependsOn": sorted(set(on))} for ref, on in sorted(edges.items())]
    return {
        "bomFormat": "CycloneDX",
        # The newest that Artifact Analysis takes: https://docs.cloud.google.com/artifact-analysis/docs/upload-sboms
        "specVersion": "1.5",
        "version": 1,
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_OID, digest)}",
        "metadata": {"component": image},
        "components": sorted(components, key=lambda component: component["bom-ref"]),
        "dependencies": dependencies,
    }


def of_crates(program: Path) -> tuple[list[Component], dict[str, list[str]]]:
    """The crates in a program and what depends on what; `""` is the program itself.

    What only ran during the build (kind `build`) is no part of it and left out.
    """
    with program.open("rb") as stream:
        section = ELFFile(stream).get_section_by_name(".dep-v0")
        if section is None:
            raise SbomError(f"{program} has no list of crates: build it with cargo-auditable")
        packages = json.loads(zlib.decompress(section.data()))["packages"]
    digests = locked((ROOT / "Cargo.lock").read_text("utf-8"))
    kept = [package.get("kind", "runtime") == "runtime" for package in packages]
    refs = [f"pkg:cargo/{package['name']}@{package['version']}" for package in packages]
    components = []
    edges: dict[str, list[str]] = {}
    for package, ref, keep in zip(packages, refs, kept):
        if not keep:
            continue
        on = [refs[index] for index in package.get("dependencies", []) if kept[index]]
        if package.get("root"):
            edges[""] = on
            continue
        edges[ref] = on
        component: Component = {
            "type": "library",
            "bom-ref": ref,
            "name": package["name"],
            "version": package["version"],
            "purl": ref,
        }
        digest = digests.get((package["name"], package["version"]))
        if digest:
            component["hashes"] = [{"alg": "SHA-256", "content": digest}]
        components.append(component)
    if "" not in edges:
        raise SbomError(f"the list of crates in {program} names no root")
    return components, edges


def locked(lock: str) -> dict[tuple[str, str], str]:
    """Digests of the crates' sources, by name and version."""
    pattern = r'^name = "([^"]+)"\nversion = "([^"]+)"\nsource = "[^"]+"\nchecksum = "([0-9a-f]{64})"'
    return {(name, version): digest for name, version, digest in re.findall(pattern, lock, re.MULTILINE)}


def of_baked(root: Path) -> list[Component]:
    """Libraries and the network: a component for each package, with its files."""
    packages: dict[str, Component] = {}
    found = sorted((root / HOME).glob("*/baked.json"))
    if not found:
        raise SbomError(f"no baked.json below {root / HOME}: is it an image of ours?")
    for listing in found:
        for record in json.loads(listing.read_text("utf-8")):
            path = record["path"]
            actual = sha256(root / path.lstrip("/"))
            if actual != record["sha256"]:
                raise SbomError(f"{path} has sha256 {actual}, but was baked in with {record['sha256']}")
            network = path.endswith(".onnx")
            file: Component = {
                "type": "machine-learning-model" if network else "file",
                "bom-ref": f"file:{path.lstrip('/')}",
                "name": path,
                "hashes": [{"alg": "SHA-256", "content": actual}],
            }
            purl = record.get("package")
            if purl is None:
                packages[path] = file
                continue
            package = packages.setdefault(purl, from_purl(purl))
            if "package_sha256" in record:
                package["hashes"] = [{"alg": "SHA-256", "content": record["package_sha256"]}]
            package.setdefault("components", []).append(file)
    return list(packages.values())


def from_purl(purl: str) -> Component:
    name, version = purl.split("?")[0].split("/", 1)[1].rsplit("@", 1)
    return {
        "type": "library",
        # Debian's zlib may stand in the image twice: once as a package of the base, once copied.
        "bom-ref": f"{purl}#baked" if purl.startswith("pkg:deb/") else purl,
        "name": name.replace("%40", "@").rsplit("/", 1)[-1] if purl.startswith("pkg:deb") else name.replace("%40", "@"),
        "version": version,
        "purl": purl,
    }


def of_debian(root: Path) -> list[Component]:
    """The packages of the base: one file for each (distroless), or one for all."""
    records = root / "var/lib/dpkg"
    texts = [path.read_text("utf-8") for path in sorted((records / "status.d").glob("*")) if path.suffix != ".md5sums"]
    if (records / "status").is_file():
        texts += (records / "status").read_text("utf-8").split("\n\n")
    components = {}
    for text in texts:
        fields = dict(re.findall(r"^(Package|Version|Architecture|Status): (.*)$", text, re.MULTILINE))
        if "Package" not in fields or "deinstall" in fields.get("Status", ""):
            continue
        purl = f"pkg:deb/debian/{fields['Package']}@{fields['Version']}?arch={fields.get('Architecture', 'all')}"
        components[purl] = {
            "type": "library",
            "bom-ref": purl,
            "name": fields["Package"],
            "version": fields["Version"],
            "purl": purl,
        }
    if not components:
        raise SbomError("the base has no record of its packages (var/lib/dpkg)")
    return list(components.values())


def validate(document: dict[str, Any]) -> None:
    """Checks a document against CycloneDX's own schema."""
    for wheel in (ROOT / ".cache/lib/python").glob("fastjsonschema-*.whl"):
        sys.path.insert(0, str(wheel))
    try:
        import fastjsonschema
    except ImportError as error:
        raise SbomError("fastjsonschema is missing: `python3 scripts/setup.py image`") from error

    def load(uri: str) -> Any:
        name = uri.rsplit("/", 1)[-1].replace(".SNAPSHOT", "")
        return json.loads((SCHEMAS / name).read_text("utf-8"))

    schema = load("bom-1.5.schema.json")
    check = fastjsonschema.compile(schema, handlers={"http": load, "https": load})
    try:
        check(document)
    except fastjsonschema.JsonSchemaException as error:
        raise SbomError(f"not valid CycloneDX: {error}") from error


if __name__ == "__main__":
    sys.exit(main())
