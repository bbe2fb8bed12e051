#!/usr/bin/env python3
"""Draws bench/results/peers.json: photos a second, cold start, peak memory.

    bench/plot.py [RESULTS.json [PICTURE.svg]]

Needs Matplotlib (`python3 -m bench.peers` has it in .cache/venv-peers). The same results give the
same file.
"""

from __future__ import annotations

import json
import pathlib
import sys

import matplotlib

matplotlib.use("svg")
from matplotlib import pyplot

ROOT = pathlib.Path(__file__).resolve().parent.parent
RESULTS = ROOT / "bench" / "results" / "peers.json"
PICTURE = ROOT / "docs" / "images" / "bench-peers.svg"

# Readable on white and on nearly black alike: the page's own colour shows through.
INK = "#7d858e"
OURS = "#2f81f7"
PEERS = "#b08d57"

Bars = list[tuple[str, float, float, float]]
"""Label, value, and what it varied between."""


def panels(group: dict) -> list[tuple[str, str, Bars]]:
    """Title, unit and bars of everything that was measured with one network."""
    found = []
    if warm := group.get("warm"):
        for of_set, title in (("mixed", "1 to 12 MP"), ("12mp", "12 MP")):
            turns = [turn for turn in warm["turns"] if turn["set"] == of_set]
            bars = []
            for row in warm["throughput"]:
                if row["set"] == of_set:
                    each = [
                        t["photos"] / t["seconds"]
                        for t in turns
                        if t["contender"] == row["contender"]
                    ]
                    bars.append((row["contender"], row["photos_per_second"], min(each), max(each)))
            if bars:
                found.append((f"Photos a second, {title}", "{:.2f}", bars))
    if cold := group.get("cold"):
        bars = [
            (row["contender"], *(row["seconds"][key] for key in ("median", "least", "most")))
            for row in cold["cold"]
        ]
        found.append(("Cold start, s (less is better)", "{:.1f} s", bars))
    if warm:
        gib = {name: max(peaks.values()) / 1024 for name, peaks in warm["peak_mib"].items()}
        found.append(
            (
                "Peak memory, GiB (less is better)",
                "{:.1f} GiB",
                [(k, v, v, v) for k, v in gib.items()],
            )
        )
    return found


def draw(axes, title: str, unit: str, bars: Bars, peers: set[str]) -> None:
    bars = bars[::-1]  # the first on top
    values = [value for _, value, _, _ in bars]
    # A single turn is its own extreme, but for the last digit.
    reach = [
        [max(0.0, value - low) for _, value, low, _ in bars],
        [max(0.0, high - value) for _, value, _, high in bars],
    ]
    colours = [PEERS if label in peers else OURS for label, *_ in bars]
    whiskers = {"ecolor": INK, "elinewidth": 1.2, "capsize": 2.5} if any(map(any, reach)) else {}
    axes.barh(
        [label for label, *_ in bars], values, color=colours, height=0.6,
        xerr=reach if whiskers else None, error_kw=whiskers,
    )  # fmt: skip
    furthest = max(high for *_, high in bars)
    for place, (_, value, _, high) in enumerate(bars):
        axes.text(
            high + furthest * 0.03, place, unit.format(value), va="center", color=INK, fontsize=9
        )
    axes.set_xlim(0, furthest * 1.25)
    axes.set_title(title, loc="left", color=INK, fontsize=10)
    axes.tick_params(colors=INK, length=0, labelsize=9)
    axes.set_xticks([])
    for name, spine in axes.spines.items():
        spine.set_visible(name == "left")
        spine.set_color(INK)


def main() -> None:
    results = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else RESULTS
    picture = pathlib.Path(sys.argv[2]) if len(sys.argv) > 2 else PICTURE
    groups = json.loads(results.read_text("utf-8"))
    # Text stays text; names inside the file come from a salt and not from chance.
    matplotlib.rcParams.update({
        "svg.fonttype": "none", "svg.hashsalt": "cutout", "font.family": "sans-serif",
    })  # fmt: skip
    rows = [
        (weights, panel, peers_of(group))
        for weights, group in groups.items()
        for panel in panels(group)
    ]
    heights = [0.55 + 0.32 * len(bars) for _, (_, _, bars), _ in rows]
    figure, all_axes = pyplot.subplots(
        len(rows), 1, figsize=(7.2, sum(heights) + 0.3), squeeze=False, layout="constrained",
        gridspec_kw={"height_ratios": heights},
    )  # fmt: skip
    figure.get_layout_engine().set(h_pad=0.1)
    several = len(groups) > 1
    for axes, (weights, (title, unit, bars), peers) in zip(all_axes[:, 0], rows, strict=True):
        draw(
            axes,
            f"{weights}: {title[0].lower()}{title[1:]}" if several else title,
            unit,
            bars,
            peers,
        )
    picture.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(picture, transparent=True, metadata={"Date": None})
    print(f"plot: {picture.relative_to(ROOT) if picture.is_relative_to(ROOT) else picture}")


def peers_of(group: dict) -> set[str]:
    """The contenders that are not ours: those that `serve.py` ran."""
    named = {**group.get("warm", {}).get("flags", {}), **group.get("cold", {}).get("flags", {})}
    return {
        name
        for name, flags in named.items()
        if flags and flags[0].split(":")[0] in ("rembg", "transparent-background")
    }


if __name__ == "__main__":
    main()
