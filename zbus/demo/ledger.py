"""Ledgers: what each process noted of its requests, handlers and pushes, as it happened.

Rules of this room:

* A process has a ledger of its own and only appends. A line is one write, so it is there whole
  or not at all, whoever is killed and when.
* Instants are of the monotonic clock, which all processes of a machine share.
* A ledger is the word of the one who asked or ran, and never that of the bus, which is judged.
"""

from __future__ import annotations

import enum
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

__all__ = ["REPLIED", "Kind", "Ledger", "Record", "read"]

REPLIED = "replied"
"""How a request ended that has a reply; any other is the name of its error."""


class Kind(enum.StrEnum):
    """What is noted. The key of the first three is the request's id, of the others a name."""

    BEGUN = "begun"
    """A request is about to be asked. Detail: topic."""
    ENDED = "ended"
    """A request has ended. Detail: ``REPLIED``, or the error and whether it ran."""
    STARTED = "started"
    """A handler starts for a request. Detail: who asks."""
    TOOK = "took"
    """A handler takes a push of the peer that is the key. Detail: the push's number."""
    COUNTED = "counted"
    """A peer leaves. Detail: what it counted."""


class Record(NamedTuple):
    """One line of a ledger."""

    at_s: float
    kind: Kind
    key: str
    detail: Any


class Ledger:
    """A process's own ledger, for any number of threads."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def note(self, kind: Kind, key: str, detail: Any) -> None:
        """Append a line."""
        line = json.dumps((time.monotonic(), kind, key, detail), separators=(",", ":"))
        os.write(self._file, line.encode() + b"\n")

    def close(self) -> None:
        """Append no more."""
        os.close(self._file)


def read(path: Path) -> Iterator[Record]:
    """What was noted there, in order; nothing where there is no ledger."""
    if not path.exists():
        return
    with path.open("rb") as lines:
        for line in lines:
            at_s, kind, key, detail = json.loads(line)
            yield Record(at_s, Kind(kind), key, detail)
