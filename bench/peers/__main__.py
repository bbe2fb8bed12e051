"""Runs the same photos through cutout and its peers with the same weights, in turns.

  # cutout and rembg: ISNet medium. Writes bench/results/peers.json, prints tables.
  python3 -m bench.peers

  # Variants of cutout, by name and flags that both `worker` and `remove` know.
  python3 -m bench.peers --ours cutout: --ours 'openvino:--provider=openvino --precision=bf16'

  # InSPyReNet too, against transparent-background on PyTorch (6 GB of Python, half an hour more).
  python3 -m bench.peers --with-transparent-background

What ran takes the place of what bench/results/peers.json had of the same network and workload; the
rest stays. bench/plot.py draws it. CUTOUT_BIN names the program (default: target/release/cutout).
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import shlex
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from . import contenders, environment, measure, proc, report
from .contenders import Command

RESULTS = environment.ROOT / "bench" / "results" / "peers.json"
WORKLOADS = ("warm", "cold")


@dataclass(frozen=True)
class Variant:
    """A way to run cutout."""

    name: str
    flags: tuple[str, ...]


@dataclass(frozen=True)
class Group:
    """Contenders with the same weights. The first is the one that the others are compared with."""

    weights: str
    warm: list[Command]
    cold: list[Command]
    sizes: measure.Sizes
    versions: dict[str, str]


def variant(text: str) -> Variant:
    name, colon, flags = text.partition(":")
    if not colon or not name:
        raise argparse.ArgumentTypeError("write a variant as NAME:FLAGS, or NAME: for the defaults")
    return Variant(name, tuple(shlex.split(flags)))


def numbers(text: str) -> list[int]:
    found = [int(part) for part in text.split(",")]
    if min(found) < 1:
        raise argparse.ArgumentTypeError("write numbers from 1, as 1,2")
    return found


def workloads(text: str) -> list[str]:
    names = text.split(",")
    if not set(names) <= set(WORKLOADS):
        raise argparse.ArgumentTypeError(f"write some of {','.join(WORKLOADS)}")
    return names


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python3 -m bench.peers",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--ours",
        type=variant,
        action="append",
        metavar="NAME:FLAGS",
        help="a variant of cutout, repeatable; the first is the yardstick (default: cutout:)",
    )
    parser.add_argument(
        "--worker-flag",
        action="append",
        default=[],
        metavar="FLAG",
        help="for `cutout worker` alone, in every variant; repeatable",
    )
    parser.add_argument(
        "--rembg-threads",
        type=numbers,
        default=[1, 2],
        metavar="N,N…",
        help="a rembg for each number, cutting so many photos out at a time (default: 1,2)",
    )
    parser.add_argument("--only", type=workloads, default=list(WORKLOADS), metavar="warm,cold")
    parser.add_argument("--photos", type=int, default=60, help="of 1 to 12 MP (default: 60)")
    parser.add_argument(
        "--large", type=int, default=16, help="further ones, all of 12 MP (default: 16)"
    )
    parser.add_argument("--chunk", type=int, default=15, help="photos in a turn (default: 15)")
    parser.add_argument(
        "--rounds", type=int, default=2, help="times each photo goes through each (default: 2)"
    )
    parser.add_argument(
        "--cold-runs", type=int, default=7, help="fresh processes of each (default: 7)"
    )
    parser.add_argument(
        "--with-transparent-background", action="store_true", help="needs PyTorch: 6 GB"
    )
    parser.add_argument("--without-rembg", action="store_true", help="leave the ISNet group out")
    parser.add_argument(
        "--out", type=Path, default=RESULTS, help="default: bench/results/peers.json"
    )
    return parser.parse_args(arguments)


def groups(args: argparse.Namespace) -> Iterator[Group]:
    ours = args.ours or [Variant("cutout", ())]
    sizes = measure.Sizes(args.photos, args.large, args.chunk, args.rounds, args.cold_runs)
    if not args.without_rembg:
        python = environment.peers_python()
        flags = ("rembg", str(environment.MODEL))
        rembgs = [
            Command(
                "rembg" if n == 1 else f"rembg ({n} threads)",
                "peer",
                (*flags, "--threads", str(n)),
                python,
            )
            for n in args.rembg_threads
        ]
        yield Group(
            "isnet-medium",
            [*cutouts(ours, "worker", args.worker_flag), *rembgs],
            [
                *cutouts(ours, "worker", args.worker_flag),
                *cutouts(ours, "remove", []),
                Command("rembg", "peer", flags, python),
            ],
            sizes,
            environment.versions(python, "rembg", "onnxruntime", "pillow", "numpy"),
        )
    if args.with_transparent_background:
        torch = environment.torch_python()
        # A photo takes PyTorch seconds at 384, and most of a minute at 1280 pixels.
        fast = replace(sizes, photos=min(args.photos, 20), large=0, chunk=min(args.chunk, 5))
        base = replace(sizes, photos=0, large=0, cold_runs=min(args.cold_runs, 3))
        for mode, amount in (("fast", fast), ("base", base)):
            checkpoint, flags = environment.inspyrenet(mode)
            with_model = [Variant(v.name, (*v.flags, *flags)) for v in ours]
            peer = Command(
                "transparent-background", "peer",
                (f"transparent-background:{mode}", str(checkpoint)), torch,
            )  # fmt: skip
            workers = cutouts(with_model, "worker", args.worker_flag)
            yield Group(
                f"inspyrenet-{mode}",
                [*workers, peer] if amount.photos else [],
                [*workers, *cutouts(with_model, "remove", []), peer],
                amount,
                environment.versions(torch, "transparent-background", "torch", "pillow"),
            )


def cutouts(variants: list[Variant], kind: str, flags: list[str]) -> list[Command]:
    return [
        Command(v.name if kind == "worker" else f"{v.name} {kind}", kind, (*v.flags, *flags))
        for v in variants
    ]


def main() -> int:
    args = parse()
    # As Ctrl-C does: what was started is ended, and nothing is left in the temporary folder.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    results = json.loads(args.out.read_text("utf-8")) if args.out.is_file() else {}
    try:
        for group in groups(args):
            for name, commands in (("warm", group.warm), ("cold", group.cold)):
                if name not in args.only or not commands:
                    continue
                entry = results.setdefault(group.weights, {})
                entry["ours"] = commands[0].name
                run = getattr(measure, name)
                entry[name] = {
                    "measured": datetime.date.today().isoformat(),
                    "machine": proc.machine(),
                    "load_before": os.getloadavg()[0],
                    "versions": group.versions,
                    "flags": {c.name: shown(c.flags) for c in commands},
                    **run(commands, entry["ours"], group.sizes),
                    "load_after": os.getloadavg()[0],
                }
                # After each workload: the next may fail, and this one took minutes.
                args.out.parent.mkdir(parents=True, exist_ok=True)
                args.out.write_text(json.dumps(rounded(results), indent=1) + "\n", "utf-8")
    except contenders.Failed as failure:
        print(f"peers: FAILED: {failure}", file=sys.stderr)
        return 1
    for weights, entry in results.items():
        print(f"\n### {weights}\n\n{report.tables(entry)}")
    return 0


def shown(flags: tuple[str, ...]) -> list[str]:
    """Without the folder of the checkout, which is nobody's business."""
    return [flag.replace(f"{environment.ROOT}/", "") for flag in flags]


def rounded(value):
    """Four decimals: a tenth of a millisecond."""
    if isinstance(value, float):
        return round(value, 4)
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    return [rounded(item) for item in value] if isinstance(value, list) else value


if __name__ == "__main__":
    sys.exit(main())
