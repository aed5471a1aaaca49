"""The tables of a run, for a terminal and for the docs: figures, targets, what is missing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from results import Results
from slices import MEASURES
from systems import RECIPES
from targets import Verdict

__all__ = ["markdown", "plain"]

Table = tuple[str, Sequence[str], list[Sequence[str]]]
"""A title, the titles of the columns, and the rows."""
_COLUMNS = {
    "p50_us": "p50, us",
    "p99_us": "p99, us",
    "rate": "a second",
    "mb_s": "MB/s",
    "lost": "lost",
    "client_cpu_us": "client CPU, us",
    "broker_cpu_us": "broker CPU, us",
    "server_cpu_us": "server CPU, us",
    "client_peak_mib": "client MiB",
    "broker_peak_mib": "broker MiB",
    "server_peak_mib": "server MiB",
    "broker_grown_mib": "broker grew, MiB",
}
_NAMES = {
    "peer_kib": "broker's memory for each of 2,000 idle peers, KiB",
    "core_percent": "of a core in the broker with 2,000 idle peers, %",
    "import_cpu_ms": "`import zbus` and its face, CPU ms beyond Python's own",
    "broker_ready_ms": "`zbus broker` until it is ready, ms",
    "req_ms": "`zbus req`, whole process, ms",
}
_GROWTH = {
    "cpu_us": "CPU of all three, us",
    "client_cpu_us": "client",
    "broker_cpu_us": "broker",
    "server_cpu_us": "server",
}
_FLARE = {
    "p50_us": "p50, us",
    "p99_us": "p99, us",
    "requests_per_s_8_threads": "a second, 8 threads",
    "fired_handled_per_s": "fire-and-forget, handled a second",
    "fired_lost": "lost",
}


def plain(results: Results, verdicts: Sequence[Verdict]) -> str:
    """For a terminal."""
    lines = []
    for title, columns, rows in _tables(results, verdicts):
        cells = [list(columns), *(list(row) for row in rows)]
        widths = [max(len(row[index]) for row in cells) for index in range(len(columns))]
        lines += ["", f"== {title}"]
        lines += [
            "  ".join(
                cell.rjust(width) if index else cell.ljust(width)
                for index, (cell, width) in enumerate(zip(row, widths, strict=True))
            )
            for row in cells
        ]
    return "\n".join(lines)


def markdown(results: Results, verdicts: Sequence[Verdict], plot: str) -> str:
    """For the page, between its markers."""
    lines = [f"{name}: {text}." for name, text in results.facts.items()]
    lines = ["\n".join(lines), "", f"![Percentiles of a sequential request]({plot})"]
    for title, columns, rows in _tables(results, verdicts):
        dashes = ["---", *("---:" for _ in columns[1:])]
        lines += ["", f"### {title}", ""]
        lines += [f"| {' | '.join(row)} |" for row in (columns, dashes, *rows)]
    return "\n".join(lines)


def _tables(results: Results, verdicts: Sequence[Verdict]) -> Iterator[Table]:
    for measure, how in MEASURES.items():
        if measure in results.figures:
            yield _measured(results, measure, how.title)
    yield from _others(results)
    if results.failures:
        failed: list[Sequence[str]] = [*results.failures.items()]
        yield "What could not be measured", ("", "why"), failed
    if verdicts:
        rows = [_judged(verdict) for verdict in verdicts]
        yield "Targets", ("target", "measured", "bound", ""), rows


def _measured(results: Results, measure: str, title: str) -> Table:
    found = results.figures[measure]
    names = [
        name
        for name in _COLUMNS
        if any(name in each for rounds in found.values() for each in rounds)
        and (name != "broker_grown_mib" or measure in {"array", "large"})
        and (name != "client_peak_mib" or measure not in {"clients", "producers"})
    ]
    rows: list[Sequence[str]] = []
    for system in RECIPES:
        if system in found:
            medians = [results.median(measure, system, name) for name in names]
            rows.append([system, *map(_number, medians)])
        elif reason := results.failures.get(f"{measure}: {system}"):
            rows.append([f"{system}: {reason}", *("-" for _ in names)])
    return title, ("", *(_COLUMNS[name] for name in names)), rows


def _others(results: Results) -> Iterator[Table]:
    figures = results.figures
    if "growth" in figures:
        rows: list[Sequence[str]] = [
            [name, *(_number(results.median("growth", name, part)) for part in _GROWTH)]
            for name in figures["growth"]
        ]
        yield "The cost of a request beside many", ("", *_GROWTH.values()), rows
    rows = [
        [_NAMES[name], _number(results.median(measure, system, name))]
        for measure, system in (("idle", "zbus ipc"), ("start", "zbus"))
        for name in next(iter(figures.get(measure, {}).get(system, [])), {})
    ]
    if rows:
        yield "Idle, and starting", ("", "median"), rows
    if "flare" in figures:
        yield _flare(results)


def _flare(results: Results) -> Table:
    systems = ("nvflare 2.9", "zbus")
    rows: list[Sequence[str]] = [
        [title, *(_number(results.median("flare", system, name)) for system in systems)]
        for name, title in _FLARE.items()
    ]
    return "An aux message of the FLARE face beside nvflare's own", ("", *systems), rows


def _judged(verdict: Verdict) -> Sequence[str]:
    target = verdict.target
    text = f"{target.workload}: {target.text}"
    bound = f"{target.how} {target.bound:g}"
    return text, _number(verdict.value, digits=2), bound, verdict.word


def _number(value: float | None, digits: int = 1) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:,.{digits}f}"
