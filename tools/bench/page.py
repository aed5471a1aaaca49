"""What the bench writes into the docs: a block of docs/benchmarks.md, and the plot beside it."""

from __future__ import annotations

from collections.abc import Sequence

from actor import ROOT, BenchFailed
from plot import percentile_plot
from results import Results
from tables import markdown
from targets import Verdict

__all__ = ["BEGIN", "END", "between_markers", "written"]

BEGIN, END = "<!-- bench: begin -->", "<!-- bench: end -->"
_PAGE = ROOT / "docs" / "benchmarks.md"
_PLOT = ROOT / "docs" / "benchmarks.svg"
_SHOWN = (
    "bare ipc",
    "zbus ipc",
    "zbus ipc, no spin",
    "zbus tcp",
    "zbus ipc, asyncio",
    "NATS",
    "Redis",
    "gRPC",
)
"""What is drawn; a line more would hide the others."""


def written(results: Results, verdicts: Sequence[Verdict]) -> None:
    """Write both."""
    drawn = {name: results.samples("sequential", name) for name in _SHOWN}
    drawn = {name: samples for name, samples in drawn.items() if samples}
    if not drawn:
        raise BenchFailed("nothing to draw: the page is written from a run that has W1")
    _PLOT.write_text(percentile_plot("A sequential request of 128 bytes", drawn), "utf-8")
    text = between_markers(_PAGE.read_text("utf-8"), markdown(results, verdicts, _PLOT.name))
    _PAGE.write_text(text, "utf-8")


def between_markers(page: str, block: str) -> str:
    """The page with this block in it, in the place of what was there."""
    head, begin, rest = page.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not (begin and end):
        raise BenchFailed(f"{_PAGE.name} has no line {BEGIN} with a line {END} after it")
    return f"{head}{BEGIN}\n\n{block}\n\n{END}{tail}"
