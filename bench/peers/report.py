"""The results as Markdown tables, ready to paste. Pure; standard library only."""

from __future__ import annotations

from typing import Any

SETS = {"mixed": "1 to 12 MP", "12mp": "12 MP"}


def tables(group: dict[str, Any]) -> str:
    """Everything that was measured with one network."""
    parts = []
    warm, cold = group.get("warm"), group.get("cold")
    if warm:
        parts += [throughput(warm["throughput"]), memory(warm["peak_mib"])]
        gaps = ", ".join(f"{name} {gap:.4f}" for name, gap in warm["alpha_difference"].items())
        parts.append(f"Mean difference of alpha from {group['ours']}, 0 to 1: {gaps}.")
    if cold:
        parts.append(cold_starts(cold["cold"]))
    return "\n\n".join(parts) + "\n"


def throughput(rows: list[dict[str, Any]]) -> str:
    return table(
        ["photos", "program", "photos/s", "s a photo (least to most)", "CPU s a photo", "PNG MiB",
         "cutout is faster by (least to most)", "others' cores"],
        [
            [
                SETS.get(row["set"], row["set"]),
                row["contender"],
                f"{row['photos_per_second']:.3f}",
                ranged(row["seconds_per_photo"]),
                f"{row['cpu_seconds_per_photo']:.2f}",
                f"{row['out_mib_per_photo']:.1f}",
                times(row["times"]),
                f"{row['others']:.2f}",
            ]
            for row in rows
        ],
    )  # fmt: skip


def memory(peaks: dict[str, dict[str, int]]) -> str:
    sets = list(next(iter(peaks.values())))
    headings = {"ready": "after the first photo", **{k: f"after {v}" for k, v in SETS.items()}}
    return table(
        ["peak resident MiB", *(headings[name] for name in sets)],
        [[name, *(str(peak[of]) for of in sets)] for name, peak in peaks.items()],
    )


def cold_starts(rows: list[dict[str, Any]]) -> str:
    return table(
        [
            "from exec to the first PNG",
            "s (least to most)",
            "times as long",
            "fresh processes",
            "others' cores",
        ],
        [
            [
                row["contender"],
                ranged(row["seconds"]),
                times(row["times"]),
                str(row["seconds"]["count"]),
                f"{row['others']:.2f}",
            ]
            for row in rows
        ],
    )


def ranged(spread: dict[str, float]) -> str:
    return f"{spread['median']:.2f} ({spread['least']:.2f} to {spread['most']:.2f})"


def times(spread: dict[str, float] | None) -> str:
    return (
        ""
        if spread is None
        else f"**{spread['median']:.2f}** ({spread['least']:.2f} to {spread['most']:.2f})"
    )


def table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
