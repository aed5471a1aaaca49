"""The forms that a setting's value can have: a duration, a size, a count, a switch, ...

Rules of this room:

* A form reads a value as TOML gives it (``read``) and as the environment or a flag gives it
  (``read_text``), and writes it as TOML (``show``); ``read`` takes back what ``show`` wrote.
* Whatever does not fit raises ValueError with a clause that says why; ``expected`` says what
  would have fitted. Who wrote the value, and where, is the caller's to add.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

from zbus.broker.units import parse_duration, parse_size, show_duration, show_size
from zbus.transport.endpoints import check_endpoint

__all__ = [
    "Choice",
    "Count",
    "Directory",
    "Duration",
    "Endpoints",
    "Form",
    "OptionalPath",
    "Size",
    "Switch",
]

T = TypeVar("T")
N = TypeVar("N", int, float)
_ENDPOINTS_MAX = 16


class Form(Protocol[T]):
    """What a value of one setting looks like."""

    @property
    def expected(self) -> str:
        """What would have fitted, for people."""

    def read(self, value: object) -> T:
        """The value from what TOML holds."""

    def read_text(self, text: str) -> T:
        """The value from an environment variable or a flag."""

    def show(self, value: T) -> str:
        """The value as TOML."""


def _quoted(text: str) -> str:
    """Text as a TOML basic string (JSON's escapes are a part of TOML's)."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("it is no text in quotes")
    return value


def _within(value: N, least: N, most: N, show: Callable[[N], str]) -> N:
    if value < least:
        raise ValueError(f"it is below {show(least)}")
    if value > most:
        raise ValueError(f"it is above {show(most)}")
    return value


@dataclass(frozen=True, slots=True)
class Duration:
    """Seconds, written with their unit."""

    least_s: float
    most_s: float

    @property
    def expected(self) -> str:
        low, high = show_duration(self.least_s), show_duration(self.most_s)
        return f'a duration from {low} to {high}, such as "250ms", "1.5s" or "2min"'

    def read(self, value: object) -> float:
        return self.read_text(_text(value))

    def read_text(self, text: str) -> float:
        return _within(parse_duration(text), self.least_s, self.most_s, show_duration)

    def show(self, value: float) -> str:
        return _quoted(show_duration(value))


@dataclass(frozen=True, slots=True)
class Size:
    """Bytes, written with their unit."""

    least_bytes: int
    most_bytes: int

    @property
    def expected(self) -> str:
        low, high = show_size(self.least_bytes), show_size(self.most_bytes)
        return f'a size from {low} to {high}, such as "64KiB" or "1MiB"'

    def read(self, value: object) -> int:
        return self.read_text(_text(value))

    def read_text(self, text: str) -> int:
        return _within(parse_size(text), self.least_bytes, self.most_bytes, show_size)

    def show(self, value: int) -> str:
        return _quoted(show_size(value))


@dataclass(frozen=True, slots=True)
class Count:
    """A whole number of things."""

    least: int
    most: int

    @property
    def expected(self) -> str:
        return f"a whole number from {self.least} to {self.most}, without quotes"

    def read(self, value: object) -> int:
        if not isinstance(value, int) or isinstance(value, bool):
            raise ValueError("it is no whole number")
        return _within(value, self.least, self.most, str)

    def read_text(self, text: str) -> int:
        if not (text.isascii() and text.isdigit() and len(text) <= 18):
            raise ValueError("it is no whole number")
        return self.read(int(text))

    def show(self, value: int) -> str:
        return str(value)


@dataclass(frozen=True, slots=True)
class Switch:
    """True or false."""

    @property
    def expected(self) -> str:
        return "true or false, without quotes"

    def read(self, value: object) -> bool:
        if not isinstance(value, bool):
            raise ValueError("it is neither true nor false")
        return value

    def read_text(self, text: str) -> bool:
        if text not in ("true", "false"):
            raise ValueError("it is neither true nor false")
        return text == "true"

    def show(self, value: bool) -> str:
        return "true" if value else "false"


@dataclass(frozen=True, slots=True)
class Choice:
    """One of a few words."""

    words: tuple[str, ...]

    @property
    def expected(self) -> str:
        return f"one of {', '.join(_quoted(word) for word in self.words)}"

    def read(self, value: object) -> str:
        return self.read_text(_text(value))

    def read_text(self, text: str) -> str:
        if text not in self.words:
            raise ValueError("it is none of them")
        return text

    def show(self, value: str) -> str:
        return _quoted(value)


@dataclass(frozen=True, slots=True)
class Directory:
    """The absolute path of a directory, which need not exist yet."""

    @property
    def expected(self) -> str:
        return 'the absolute path of a directory, such as "/run/zbus"'

    def read(self, value: object) -> Path:
        return self.read_text(_text(value))

    def read_text(self, text: str) -> Path:
        path = Path(text)
        if not path.is_absolute() or "\0" in text:
            raise ValueError("it is no absolute path")
        return path

    def show(self, value: Path) -> str:
        return _quoted(str(value))


@dataclass(frozen=True, slots=True)
class OptionalPath:
    """The absolute path of a file or a directory, or none."""

    what: str

    @property
    def expected(self) -> str:
        return f'the absolute path of {self.what}, or "" for none'

    def read(self, value: object) -> Path | None:
        return self.read_text(_text(value))

    def read_text(self, text: str) -> Path | None:
        return Directory().read_text(text) if text else None

    def show(self, value: Path | None) -> str:
        return _quoted("" if value is None else str(value))


@dataclass(frozen=True, slots=True)
class Endpoints:
    """One endpoint or a list of them; in the environment and in flags, commas part them."""

    @property
    def expected(self) -> str:
        return 'an endpoint or a list of them, such as "ipc:///run/zbus/frontend"'

    def read(self, value: object) -> tuple[str, ...]:
        listed = value if isinstance(value, list) else [value]
        return self._checked([_text(each) for each in listed])

    def read_text(self, text: str) -> tuple[str, ...]:
        return self._checked([part.strip() for part in text.split(",")])

    def show(self, value: tuple[str, ...]) -> str:
        return f"[{', '.join(_quoted(each) for each in value)}]"

    @staticmethod
    def _checked(listed: list[str]) -> tuple[str, ...]:
        if not 1 <= len(listed) <= _ENDPOINTS_MAX:
            raise ValueError(f"there are {len(listed)}; 1 to {_ENDPOINTS_MAX} are wanted")
        if len(set(listed)) != len(listed):
            raise ValueError("one endpoint stands there twice")
        return tuple(check_endpoint(each) for each in listed)
