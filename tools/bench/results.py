"""The figures of a run: kept by measure, system and round, and made into medians and ratios."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field
from typing import Any

from slices import SAMPLES

__all__ = ["Results"]


@dataclass(slots=True)
class Results:
    """``figures[measure][system]`` has the figures of each round, in order."""

    figures: dict[str, dict[str, list[dict[str, Any]]]] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    """``measure: system``, or what was measured, and why it has no figures or not all."""
    facts: dict[str, str] = field(default_factory=dict)
    """The machine, the versions, the command."""

    def add(self, measure: str, system: str, figures: dict[str, Any]) -> None:
        """A round's figures."""
        self.figures.setdefault(measure, {}).setdefault(system, []).append(figures)

    def rounds(self, measure: str, system: str, figure: str) -> list[float]:
        """This figure in each round; empty if it was not measured."""
        rounds = self.figures.get(measure, {}).get(system, [])
        return [each[figure] for each in rounds if figure in each]

    def median(self, measure: str, system: str, figure: str) -> float | None:
        """The median of the rounds, or None."""
        values = self.rounds(measure, system, figure)
        return statistics.median(values) if values else None

    def ratio(self, ours: tuple[str, str], theirs: tuple[str, str], figure: str) -> float | None:
        """The median of the ratios of the rounds, each a (measure, system); None without both."""
        pairs = zip(self.rounds(*ours, figure), self.rounds(*theirs, figure), strict=False)
        ratios = [one / other for one, other in pairs if other]
        return statistics.median(ratios) if ratios else None

    def samples(self, measure: str, system: str) -> list[float]:
        """Every time of every round, in order of size."""
        rounds = self.figures.get(measure, {}).get(system, [])
        return sorted(each for one in rounds for each in one.get(SAMPLES, ()))

    def plain(self) -> dict[str, Any]:
        """As JSON has it, and ``Results(**…)`` takes it back."""
        return {name: getattr(self, name) for name in self.__slots__}
