"""Cases for zbus.engine and FLARE, what each says as text, and what is on record of the seed era.

Rules of this room:

* A case takes an API and gives what is compared. Most run with both packages; those of ``ours``
  run with zbus alone, since what they ask was in the seed era only.
* A record is what the seed era (2.1.1 to 2.2.0) says to a case, in the same form, with the section
  of the contract that has it. The seed era cannot be installed beside the released package.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

__all__ = ["CASES", "OURS", "RECORDS", "Record", "case", "ours", "outcome", "record"]

Case = Callable[[Any], Any]
KINDS = {
    "AttributeError", "ConfigError", "LookupError", "ModuleNotFoundError", "NotImplementedError",
    "OverflowError", "RuntimeError", "SystemExit", "TypeError", "UnencodableBody", "ValueError",
}  # fmt: skip
CASES: dict[str, Case] = {}
"""Those that run with both packages."""
OURS: dict[str, Case] = {}
"""Those that run with zbus alone; each has a record."""


class Record(NamedTuple):
    """What the seed era says, and the section of the contract that says so."""

    outcome: str
    section: str


RECORDS: dict[str, Record] = {}


def case(function: Case) -> Case:
    """It runs with both packages."""
    CASES[_name(function)] = function
    return function


def record(said: str, section: str) -> Callable[[Case], Case]:
    """What the seed era says to this case."""

    def decorate(function: Case) -> Case:
        RECORDS[_name(function)] = Record(said, section)
        return function

    return decorate


def ours(said: str, section: str) -> Callable[[Case], Case]:
    """It runs with zbus alone, and this is what the seed era says."""

    def decorate(function: Case) -> Case:
        OURS[_name(function)] = function
        return record(said, section)(function)

    return decorate


def outcome(function: Case, api: Any) -> str:
    """The repr of what came out, or ``raises`` and the kind of error."""
    try:
        return repr(function(api))
    except BaseException as error:  # noqa: BLE001 - how it fails is the outcome
        kinds = [kind.__name__ for kind in type(error).__mro__]
        return f"raises {next((kind for kind in kinds if kind in KINDS), kinds[0])}"


def _name(function: Case) -> str:
    return function.__name__.replace("__", ".")
