"""The bench: every workload over zbus, the bare libzmq proxy, NATS, Redis, gRPC and nvflare.

    python tools/bench                      everything, three rounds
    python tools/bench --only W1,W4         some workloads; --rounds N, --json
    python tools/bench --write              the same, into docs/benchmarks.md and its plot
    python tools/bench --as-it-is           the source as it is, and not compiled as a release is

Everything that is compared runs in slices in turn in one run; what counts is the ratio, and the
median of the rounds. Exit code 1 where a target is missed or could not be measured, with the list.
Absolute figures say something about the machine only. The peers are installed on first use.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

_HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(_HERE), str(_HERE.parents[1])]

from actor import BenchFailed  # noqa: E402
from compiled import enter  # noqa: E402
from page import written  # noqa: E402
from results import Results  # noqa: E402
from rounds import ALL, measured  # noqa: E402
from tables import plain  # noqa: E402
from targets import judged  # noqa: E402


def main() -> int:
    """Measure, print, and judge."""
    options = _options()
    workloads = set(options.only)
    try:
        if not (options.as_it_is or options.from_file):
            enter(sys.argv[1:])
        results = _read(options.from_file) if options.from_file else measured(options, workloads)
        verdicts = judged(results, workloads, options.margin)
        if options.write:
            written(results, verdicts)
    except BenchFailed as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    missed = [verdict for verdict in verdicts if not verdict.met]
    if options.json:
        lines = [verdict.line() for verdict in missed]
        print(json.dumps({**results.plain(), "missed": lines}))
    else:
        print(plain(results, verdicts))
    if options.gate:
        ratio = results.ratio(("sequential", "zbus ipc"), ("sequential", "bare ipc"), "p50_us")
        return 1 if ratio is None or ratio > options.gate else 0
    print(f"\nbench: {len(verdicts) - len(missed)} of {len(verdicts)} targets met", file=sys.stderr)
    for verdict in missed:
        print(f"bench: {verdict.line()}", file=sys.stderr)
    return 1 if missed else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="tools/bench", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--only", type=_some, default=ALL, metavar="W1,W4", help="these workloads")
    parser.add_argument("--rounds", type=int, default=3, help="slices of each system")
    parser.add_argument(
        "--margin", type=float, default=0.0, metavar="0.25", help="forgive so much of each bound"
    )
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    parser.add_argument("--write", action="store_true", help="write docs/benchmarks.md")
    parser.add_argument("--from", dest="from_file", type=Path, help="judge the JSON of a run again")
    parser.add_argument("--as-it-is", action="store_true", help="do not compile zbus")
    parser.add_argument(
        "--gate", type=float, help="judge only zbus to bare at p50, and fail above this ratio"
    )
    return parser.parse_args()


def _some(text: str) -> list[str]:
    names = [name.strip().upper() for name in text.split(",")]
    if unknown := [name for name in names if name not in ALL]:
        raise argparse.ArgumentTypeError(f"{unknown[0]} is none of {', '.join(ALL)}")
    return names


def _read(path: Path) -> Results:
    plain_results = json.loads(path.read_text("utf-8"))
    del plain_results["missed"]
    return Results(**plain_results)


if __name__ == "__main__":
    sys.exit(main())
