"""What a photo costs, stage by stage, and which photos come."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from typing import Callable, Sequence


@dataclass(frozen=True)
class Photo:
    """Seconds that each stage takes when nothing else runs; cores are taken by three of them."""

    download: float = 0.0
    decode: float = 0.0
    infer: float = 0.0
    compose: float = 0.0
    encode: float = 0.0
    upload: float = 0.0

    @property
    def cpu(self) -> float:
        """Core-seconds outside the network."""
        return self.decode + self.compose + self.encode

    @property
    def total(self) -> float:
        """From pull to ack when it is alone."""
        return self.download + self.cpu + self.infer + self.upload


@dataclass(frozen=True)
class PerMegapixel:
    """A stage's seconds as a line over the photo's megapixels."""

    fixed: float
    slope: float

    def at(self, megapixels: float) -> float:
        return self.fixed + self.slope * megapixels


@dataclass(frozen=True)
class StageCosts:
    """What turns a photo's size into its costs. The network sees every photo at one size."""

    download: PerMegapixel
    decode: PerMegapixel
    compose: PerMegapixel
    encode: PerMegapixel
    upload: PerMegapixel
    infer: float

    def photo(self, megapixels: float) -> Photo:
        return Photo(
            download=self.download.at(megapixels),
            decode=self.decode.at(megapixels),
            infer=self.infer,
            compose=self.compose.at(megapixels),
            encode=self.encode.at(megapixels),
            upload=self.upload.at(megapixels),
        )


class Mix:
    """Photos to draw from, by weight."""

    def __init__(self, photos: Sequence[Photo], weights: Sequence[float] | None = None):
        if not photos:
            raise ValueError("a mix needs at least one photo")
        self.photos = list(photos)
        self.weights = list(weights or [1.0] * len(photos))

    def draw(self, chance: random.Random) -> Photo:
        return chance.choices(self.photos, self.weights)[0]

    def mean(self, of: Callable[[Photo], float]) -> float:
        """The weighted mean of something about a photo."""
        return sum(w * of(p) for p, w in zip(self.photos, self.weights)) / sum(self.weights)

    def with_infer(self, seconds: float) -> Mix:
        """The same photos through a network that takes this long."""
        return Mix([replace(photo, infer=seconds) for photo in self.photos], self.weights)

    @classmethod
    def of_sizes(cls, costs: StageCosts, sizes: dict[float, float]) -> Mix:
        """Photos of these megapixels, by weight."""
        return cls([costs.photo(size) for size in sizes], list(sizes.values()))

    @classmethod
    def of_bench(cls, report: dict, network: StageCosts) -> Mix:
        """The photos of a `cutout bench stages --json` report, each by its own medians.

        The report knows no network: downloads and uploads come from `network`.
        """
        photos = []
        for row in report["photos"]:
            megapixels = row["width"] * row["height"] / 1e6
            stages = {name: row[name]["median"] for name in ("decode", "infer", "compose", "encode")}
            photos.append(
                Photo(
                    download=network.download.at(megapixels),
                    upload=network.upload.at(megapixels),
                    **stages,
                )
            )
        return cls(photos)
