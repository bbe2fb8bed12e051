"""The commands of simulate.py."""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
from dataclasses import asdict, replace
from pathlib import Path

from . import answers, arrivals, presets, report
from .autoscaler import Scaling
from .check import check
from .check import table as check_table
from .des import ROOT
from .fleet import Scenario, simulate
from .photos import Mix
from .prices import Price
from .roofline import roofline
from .worker import WorkerSpec


def main(arguments: list[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    try:
        return options.command(options)
    except (ValueError, OSError, KeyError) as error:
        print(f"simulate: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        return 0


def _parser() -> argparse.ArgumentParser:
    import simpy  # named here for --version

    parser = argparse.ArgumentParser(prog="simulate.py", description=main.__doc__ or __doc__)
    parser.add_argument("--version", action="version", version=f"simpy {simpy.__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, run, text: str) -> argparse.ArgumentParser:
        added = commands.add_parser(
            name, help=text, description=text, formatter_class=argparse.ArgumentDefaultsHelpFormatter
        )
        added.set_defaults(command=run)
        added.add_argument("--json", action="store_true", help="print JSON instead of tables")
        return added

    added = command("answers", _answers, "the tables of docs/scale.md")
    _costs(added)
    added.add_argument("--seed", type=int, default=1)

    for name, run, text in (
        ("run", _run, "one scenario"),
        ("sweep", _sweep, "one scenario over targets and fleet sizes, by service level"),
    ):
        added = command(name, run, text)
        _costs(added)
        _load(added)
        _fleet(added, sweep=name == "sweep")
        added.add_argument("--seed", type=int, default=1)

    added = command("check", _check, "a prediction against a real local worker")
    added.add_argument("--photos", type=Path, default=ROOT / "samples", help="folder of photos")
    added.add_argument("--jobs", type=int, default=20, help="how many are published at once")
    added.add_argument("--rounds", type=int, default=2, help="rounds of cutout bench, twice")
    added.add_argument(
        "--program",
        default=os.environ.get("CUTOUT_BIN", str(ROOT / "target/release/cutout")),
        help="the worker; CUTOUT_BIN names it too",
    )
    added.add_argument(
        "flags", nargs="*", metavar="FLAG", help="after --: flags of both worker and bench (--home, --model)"
    )

    added = command("roofline", _roofline, "what a network costs an L4, by its operators")
    added.add_argument("graph")
    added.add_argument("side", type=int)
    return parser


def _costs(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("what a photo costs")
    group.add_argument("--network", choices=presets.NETWORKS, default="l4-middle", help="seconds in the network")
    group.add_argument("--infer-ms", type=float, help="the same, as a number of your own")
    group.add_argument(
        "--measured", metavar="FILE", help="photos and stage times from `cutout bench stages --json`; - is standard input"
    )
    group.add_argument("--vcpus", type=int, default=4, help="cores of a worker")
    group.add_argument("--max-jobs", type=int, default=0, help="as the worker's flag; 0 is its default")
    group.add_argument("--max-batch", type=int, default=1, help="photos in one run of the network")
    group.add_argument("--batch-share", type=float, default=1.0, help="cost of each further photo of a batch")
    group.add_argument("--cold-start", type=float, default=30.0, help="seconds until a new worker pulls")
    group.add_argument("--gpu-price", type=float, default=Price.gpu * 3600, help="dollars an hour of a card")


def _load(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("when photos come")
    group.add_argument("--per-hour", type=float, default=1000, help="steady base load")
    group.add_argument("--hours", type=float, default=1.0)
    group.add_argument("--per-day", type=float, default=0, help="a day's photos along a shop's day instead")
    group.add_argument("--spike", type=int, default=0, help="photos on top")
    group.add_argument("--spike-at", type=float, default=10, help="minutes from the start")
    group.add_argument("--spike-minutes", type=float, default=10)
    group.add_argument("--trace", type=Path, help="a file of arrivals instead of all that")


def _fleet(parser: argparse.ArgumentParser, sweep: bool) -> None:
    group = parser.add_argument_group("how many workers")
    group.add_argument("--min", type=int, default=0, dest="minimum")
    if sweep:
        group.add_argument("--max", type=int, nargs="+", default=[2, 4, 6, 8, 12, 16, 24], dest="maxima")
        group.add_argument("--target", type=float, nargs="+", default=[50, 200, 800], dest="targets")
        group.add_argument("--age", type=float, help="service level: p95 seconds in the queue, of the base load")
        group.add_argument("--drain", type=float, help="service level: minutes until the spike is done")
    else:
        group.add_argument("--max", type=int, default=10, dest="maximum")
        group.add_argument("--target", type=float, default=Scaling.target, help="backlog per worker")
        group.add_argument("--workers", type=int, help="this many, and no autoscaler")
    group.add_argument("--poll", type=float, default=Scaling.poll, help="seconds between the autoscaler's looks")
    group.add_argument("--metric-delay", type=float, default=Scaling.metric_delay, help="age of the youngest sample it sees")
    group.add_argument("--stabilisation", type=float, default=Scaling.stabilisation, help="seconds before scaling in")


def measured(options: argparse.Namespace) -> tuple[Mix, WorkerSpec, str]:
    """The photos, the worker, and the words for them."""
    worker = WorkerSpec(
        cores=options.vcpus,
        max_jobs=options.max_jobs,
        max_batch=options.max_batch,
        batch_share=options.batch_share,
        cold_start=options.cold_start,
    )
    if options.measured:
        text = sys.stdin.read() if options.measured == "-" else Path(options.measured).read_text(encoding="utf-8")
        bench = json.loads(text)
        mix = Mix.of_bench(bench, presets.STAGES)
        name = f"{bench['model']} on {bench['provider']}, measured"
        if bench["provider"] in ("cpu", "openvino"):
            # Such a worker has the cores that were measured: the network's time is theirs.
            worker = replace(worker, cores=bench["cores"], engine_threads=bench["threads"])
    else:
        mix, name = presets.shop_mix(options.network), options.network
        if options.network in presets.CPU:
            worker = replace(worker, cores=2, engine_threads=2)
    if options.infer_ms is not None:
        mix, name = mix.with_infer(options.infer_ms / 1e3), f"{options.infer_ms:g} ms a run"
    return mix, worker, name


def price(options: argparse.Namespace, worker: WorkerSpec) -> Price:
    """A worker that computes on its cores pays for no card."""
    card = 0.0 if worker.engine_threads else options.gpu_price / 3600
    return replace(Price(), gpu=card)


def scenario(options: argparse.Namespace, scaling: Scaling) -> Scenario:
    """The scenario that the options of `run` and `sweep` describe."""
    chance = random.Random(f"arrivals {options.seed}")
    seconds = options.hours * 3600
    if options.trace:
        times = {"trace": arrivals.trace(options.trace)}
        seconds = times["trace"][-1]
    elif options.per_day:
        times, seconds = {"base": arrivals.day(options.per_day, chance)}, 86400.0
    else:
        times = {"base": arrivals.steady(options.per_hour, seconds, chance)}
    if options.spike:
        times["spike"] = arrivals.spike(
            options.spike, options.spike_at * 60, options.spike_minutes * 60, chance
        )
    mix, worker, _ = measured(options)
    return Scenario(times, mix, worker, scaling, price(options, worker), seconds=seconds)


def _lagging(options: argparse.Namespace) -> dict:
    return {name: getattr(options, name) for name in ("poll", "metric_delay", "stabilisation")}


def _run(options: argparse.Namespace) -> int:
    if options.workers:
        scaling = Scaling.fixed(options.workers)
    else:
        scaling = Scaling(options.minimum, options.maximum, options.target, **_lagging(options))
    outcome = simulate(scenario(options, scaling), options.seed)
    print(json.dumps(asdict(outcome), indent=2) if options.json else report.one(outcome))
    return 0


def _sweep(options: argparse.Namespace) -> int:
    rows = []
    for target in options.targets:
        for maximum in options.maxima:
            if maximum < options.minimum:
                continue
            scaling = Scaling(options.minimum, maximum, target, **_lagging(options))
            outcome = simulate(scenario(options, scaling), options.seed)
            rows.append(report.Row(target, maximum, outcome, options.age, options.drain))
    if options.json:
        print(json.dumps([row.as_dict() for row in rows], indent=2))
    else:
        print(report.sweep(rows))
    return 0


def _answers(options: argparse.Namespace) -> int:
    mix, worker, name = measured(options)
    if options.measured or options.infer_ms is not None:
        cases = {name: (mix, worker, price(options, worker))}
    else:
        cases = {}
        for options.network in (*presets.L4, "openvino-bf16-2"):
            mix, worker, name = measured(options)
            cases[name] = (mix, worker, price(options, worker))
    found = answers.all_of(cases, options.seed)
    print(json.dumps(found, indent=2) if options.json else answers.tables(found))
    return 0


def _check(options: argparse.Namespace) -> int:
    found = check(options.program, options.photos.resolve(), options.jobs, options.rounds, options.flags)
    print(json.dumps(found, indent=2) if options.json else check_table(found))
    return 0


def _roofline(options: argparse.Namespace) -> int:
    found = roofline(options.graph, options.side)
    if options.json:
        print(json.dumps(found, indent=2))
        return 0
    print(f"{found['gmac']:.0f} GMAC; " + ", ".join(f"{k} {v:.1f} GB" for k, v in found["gigabytes"].items()))
    print("milliseconds on an L4: " + ", ".join(f"{k} {v:.0f}" for k, v in found["milliseconds"].items()))
    return 0
