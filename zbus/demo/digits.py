"""The digits: 1,797 scanned digits that scikit-learn ships, split between the engines.

Rules of this room:

* No digit is in two shards, and those held out are in none.
* As a process, ``python -m zbus.demo.digits PLACE`` writes the shards of the plan. scikit-learn
  is imported there and nowhere else, for it takes as long to import as all else to start.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import NamedTuple, TypeAlias

import numpy
from numpy.typing import NDArray

from zbus.demo.plan import HELD_OUT, Place, Plan

__all__ = ["Array", "Shard", "load", "main", "split", "write"]

Array: TypeAlias = NDArray[numpy.float32]
_HELD_OUT_SHARE = 0.2
_WHITE = 16
"""The greatest value of a pixel."""


class Shard(NamedTuple):
    """Digits: 64 pixels each, from 0 to 1, and which digit each is."""

    images: Array
    labels: NDArray[numpy.int64]


def split(digits: Shard, plan: Plan) -> dict[str, Shard]:
    """A shard for each engine, and those held out; the same ones for the same plan."""
    order = numpy.random.default_rng(plan.seed).permutation(len(digits.labels))
    held_out = int(len(order) * _HELD_OUT_SHARE)
    parts = {HELD_OUT: order[:held_out]}
    parts |= zip(plan.names, numpy.array_split(order[held_out:], plan.engines), strict=True)
    return {
        name: Shard(digits.images[chosen], digits.labels[chosen]) for name, chosen in parts.items()
    }


def write(path: Path, shard: Shard) -> None:
    """Write a shard as an ``.npz`` file."""
    numpy.savez(path, images=shard.images, labels=shard.labels)


def load(path: Path) -> Shard:
    """The shard that was written there."""
    with numpy.load(path) as arrays:
        return Shard(arrays["images"], arrays["labels"])


def main(words: list[str]) -> None:
    """Write the shards of the plan at ``PLACE``."""
    place = Place(Path(words[0]))
    for name, shard in split(_every_digit(), place.plan()).items():
        write(place.shard(name), shard)


def _every_digit() -> Shard:
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    return Shard((images / _WHITE).astype(numpy.float32), labels.astype(numpy.int64))


if __name__ == "__main__":
    main(sys.argv[1:])
