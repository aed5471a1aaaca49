"""What every process of a run has noted, and whether the promises held: an offline checker.

It reads the ledgers of ``processes.troupe`` when all is over, and knows nothing of zbus.

    P1  each request that was begun has one end: exactly one, or at most one of a killed process;
        a reply is the one that was asked for
    P4  ``no`` was started by nobody, ``yes`` and a reply were, and a reply's handler had ended
    P5  no id was started twice by one life of a server
    P7  each push that was accepted and not dropped was taken, in its sender's order, and what
        the sender's bus counts adds up

Rules of this room:

* A *life* is what one process noted, from its ``life`` to the next one of the same file. One
  that has no ``done`` was killed, and is forgiven what it could not note.
* A push may be taken again by another life, since a killed one may not have settled it. Within a
  life the numbers of a sender rise, and none is taken before the one before it was by somebody.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from processes.ledger import Entry, read

__all__ = ["History", "Life", "Violation", "lives_in"]


class Violation(NamedTuple):
    """A promise, the request or push that it was broken for, and how."""

    promise: str
    key: str
    what: str


@dataclass
class Life:
    """One process, from beginning to end."""

    name: str
    number: str
    entries: list[Entry] = field(default_factory=list)

    def of(self, event: str) -> Iterator[Entry]:
        """What it noted of one kind, in order."""
        return (entry for entry in self.entries if entry.event == event)

    @property
    def is_done(self) -> bool:
        """Whether it ended by itself."""
        return any(True for _ in self.of("done"))


def lives_in(folder: Path) -> list[Life]:
    """Every life that was noted in this folder."""
    lives: list[Life] = []
    for path in sorted(folder.glob("*.ledger")):
        for entry in read(path):
            if entry.event == "life":
                lives.append(Life(path.stem, entry.key))
            else:
                lives[-1].entries.append(entry)
    return lives


class _Run(NamedTuple):
    """A handler that was started, and its end if it was noted."""

    life: Life
    end_s: float | None

    def is_of(self, name_and_number: list[str]) -> bool:
        return [self.life.name, self.life.number] == name_and_number


class History:
    """A run that is over."""

    def __init__(self, lives: Iterable[Life]) -> None:
        self.lives = list(lives)
        self._runs: dict[str, list[_Run]] = defaultdict(list)
        for life in self.lives:
            ends = {entry.key: entry.at_s for entry in life.of("end")}
            for entry in life.of("start"):
                self._runs[entry.key].append(_Run(life, ends.get(entry.key)))

    def violations(self) -> list[Violation]:
        """Everything that broke a promise; empty for a good run."""
        checks = (self._one_outcome, self._did_it_run, self._starts, self._pushes)
        return [violation for check in checks for violation in check()]

    def outcomes(self) -> Counter[str]:
        """How many requests ended how."""
        return Counter(entry.rest.split()[0] for life in self._askers() for entry in life.of("end"))

    def lateness_s(self) -> list[float]:
        """By how much each request ended after its time, negative for before; sorted."""
        late = []
        for life in self._askers():
            begun = {entry.key: entry for entry in life.of("begin")}
            for entry in life.of("end"):
                began = begun[entry.key]
                late.append(entry.at_s - began.at_s - float(began.rest))
        return sorted(late)

    def early(self) -> list[str]:
        """The requests that were called too late before their time was up."""
        found = []
        for life in self._askers():
            begun = {entry.key: entry for entry in life.of("begin")}
            for entry in life.of("end"):
                timed_out = entry.rest.startswith("RequestTimeout")
                if timed_out and entry.at_s - begun[entry.key].at_s < float(begun[entry.key].rest):
                    found.append(entry.key)
        return found

    def _askers(self) -> Iterator[Life]:
        return (life for life in self.lives if any(True for _ in life.of("begin")))

    # -- P1 ------------------------------------------------------------------------------------

    def _one_outcome(self) -> Iterator[Violation]:
        for life in self.lives:
            begun = Counter(entry.key for entry in life.of("begin"))
            ended = Counter(entry.key for entry in life.of("end") if entry.rest != "-")
            for key in begun.keys() | ended.keys():
                if ended[key] > begun[key]:
                    yield Violation("P1", key, f"begun {begun[key]}, ended {ended[key]} times")
                elif ended[key] < begun[key] and life.is_done:
                    yield Violation("P1", key, "it never ended")
            for key, reply in _replies(life):
                if reply[0] != key:
                    yield Violation("P1", key, f"it got the reply to {reply[0]}")

    # -- P4 ------------------------------------------------------------------------------------

    def _did_it_run(self) -> Iterator[Violation]:
        for life in self.lives:
            for entry in life.of("end"):
                told = entry.rest.rpartition(" ")[2]
                runs = self._runs.get(entry.key, [])
                if told == "no" and runs:
                    yield Violation("P4", entry.key, f"told no, but {runs[0].life.name} started it")
                elif told == "yes" and not runs:
                    yield Violation("P4", entry.key, "told yes, but nobody started it")
            yield from self._unfounded(life)

    def _unfounded(self, life: Life) -> Iterator[Violation]:
        """Replies of handlers that had not ended, or never begun."""
        ended_at = {entry.key: entry.at_s for entry in life.of("end")}
        for key, reply in _replies(life):
            ends = [run.end_s for run in self._runs.get(key, []) if run.is_of(reply[1:])]
            if not any(end_s is not None and end_s <= ended_at[key] for end_s in ends):
                yield Violation("P4", key, f"{' '.join(reply[1:])} replied, but had not run it")

    # -- P5 ------------------------------------------------------------------------------------

    def _starts(self) -> Iterator[Violation]:
        for life in self.lives:
            for key, count in Counter(entry.key for entry in life.of("start")).items():
                if count > 1:
                    yield Violation(
                        "P5", key, f"{life.name} {life.number} started it {count} times"
                    )

    # -- P7 ------------------------------------------------------------------------------------

    def _pushes(self) -> Iterator[Violation]:
        taken = self._taken()
        for life in self.lives:
            accepted = [entry.key for entry in life.of("accept")]
            dropped = 0
            for entry in life.of("counted"):
                counts = [int(word) for word in entry.rest.split()]
                dropped += counts[2] + counts[3]
                if counts[0] != sum(counts[1:]) or counts[0] != len(accepted):
                    text = f"{len(accepted)} were accepted, and its bus counts {entry.rest}"
                    yield Violation("P7", life.name, text)
            missing = [key for key in accepted if key not in taken] if life.is_done else []
            if len(missing) > dropped:
                yield Violation(
                    "P7", missing[0], f"{len(missing)} accepted pushes were never taken"
                )
        yield from self._out_of_order(taken)

    def _taken(self) -> dict[str, float]:
        """When each push was taken for the first time."""
        entries = [entry for life in self.lives for entry in life.of("push")]
        return {entry.key: entry.at_s for entry in sorted(entries, reverse=True)}

    def _out_of_order(self, taken: dict[str, float]) -> Iterator[Violation]:
        for life in self.lives:
            latest: dict[str, int] = {}
            for entry in life.of("push"):
                source, _, text = entry.key.rpartition(":")
                number = int(text)
                if number <= latest.get(source, -1):
                    what = f"{life.name} took it after {latest[source]}"
                    yield Violation("P7", entry.key, what)
                latest[source] = max(latest.get(source, -1), number)
                if taken.get(f"{source}:{number - 1}", 0.0) > entry.at_s:
                    yield Violation("P7", entry.key, f"{life.name} took it before the one before")


def _replies(life: Life) -> Iterator[tuple[str, list[str]]]:
    """Key, and the id, server and life that the reply says."""
    for entry in life.of("end"):
        if entry.rest.startswith("reply "):
            yield entry.key, entry.rest.split()[1:]
