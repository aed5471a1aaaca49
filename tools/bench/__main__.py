"""Measurements beside the limit: ``python tools/bench``, a sequential 128-byte request.

What is compared runs in slices in turn, so that the machine's mood is the same for all, and what
counts is the ratio of neighbouring slices. ``--gate R`` exits 1 where the median ratio of zbus to
bare libzmq is above R. Absolute figures say something about the machine only.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import bare
import live_bus

BODY = b"x" * 128
SLICE = 200
_LIMIT, _OURS, _HANDED = "bare libzmq proxy", "zbus", "zbus, I/O thread always"


def main() -> int:
    """Measure, print a table, and judge."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=10, help=f"slices of {SLICE} requests each")
    parser.add_argument("--gate", type=float, default=0.0, help="fail above this ratio")
    options = parser.parse_args()
    with ExitStack() as stack, tempfile.TemporaryDirectory(prefix="zb") as place:
        endpoint = stack.enter_context(live_bus.running(Path(place) / "zbus"))
        sources = {
            _LIMIT: stack.enter_context(bare.sequential(Path(place), BODY)),
            _OURS: stack.enter_context(live_bus.sequential(endpoint, BODY)),
            _HANDED: stack.enter_context(live_bus.sequential(endpoint, BODY, callers_lead=False)),
        }
        samples = _in_turn(sources, options.rounds)
    ratio = _report(samples)
    return 1 if options.gate and ratio > options.gate else 0


def _in_turn(sources: dict[str, Iterator[float]], rounds: int) -> dict[str, list[list[float]]]:
    for source in sources.values():
        list(itertools.islice(source, SLICE))  # warm up
    samples: dict[str, list[list[float]]] = {name: [] for name in sources}
    for _ in range(rounds):
        for name, source in sources.items():
            samples[name].append(list(itertools.islice(source, SLICE)))
    return samples


def _report(samples: dict[str, list[list[float]]]) -> float:
    print(f"{'sequential request, 128 B':26} {'p50 us':>8} {'p99 us':>8} {'to bare':>8}")
    for name, slices in samples.items():
        every = sorted(itertools.chain.from_iterable(slices))
        p50, p99 = statistics.median(every), every[int(len(every) * 0.99)]
        ratio = _ratio(slices, samples[_LIMIT])
        print(f"{name:26} {p50 * 1e6:8.0f} {p99 * 1e6:8.0f} {ratio:8.2f}")
    return _ratio(samples[_OURS], samples[_LIMIT])


def _ratio(ours: list[list[float]], theirs: list[list[float]]) -> float:
    """The median of the ratios of the medians of neighbouring slices."""
    return statistics.median(
        statistics.median(one) / statistics.median(other)
        for one, other in zip(ours, theirs, strict=True)
    )


if __name__ == "__main__":
    sys.exit(main())
