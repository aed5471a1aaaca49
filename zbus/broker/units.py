"""Durations and sizes as people write them in settings: ``250ms``, ``64MiB``.

Rules of this room:

* A value carries its unit, always; a bare number is refused, because it is how a second
  becomes a millisecond. Durations come in us, ms, s, min and h, sizes in B, KiB, MiB and GiB.
* Arithmetic is exact: ``300ms`` is the float nearest to 0.3, and a size is a whole number of
  bytes or refused.
* What ``show_*`` writes, ``parse_*`` reads back as the same value.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal
from fractions import Fraction

__all__ = ["parse_duration", "parse_size", "show_duration", "show_size"]

_DURATIONS: Mapping[str, Fraction] = {
    "h": Fraction(3600),
    "min": Fraction(60),
    "s": Fraction(1),
    "ms": Fraction(1, 1000),
    "us": Fraction(1, 1_000_000),
}
_SIZES: Mapping[str, Fraction] = {
    "GiB": Fraction(2**30),
    "MiB": Fraction(2**20),
    "KiB": Fraction(2**10),
    "B": Fraction(1),
}
_WRITTEN = re.compile(r"([0-9]{1,18}(?:\.[0-9]{1,30})?) ?([A-Za-z]{1,3})", re.ASCII)


def parse_duration(text: str) -> float:
    """Seconds in ``"250ms"``, ``"1.5s"``, ``"2min"`` or ``"1h"``; else ValueError."""
    return float(_parse(text, _DURATIONS))


def parse_size(text: str) -> int:
    """Bytes in ``"512B"``, ``"64KiB"``, ``"1MiB"`` or ``"2GiB"``; else ValueError."""
    size = _parse(text, _SIZES)
    if size.denominator != 1:
        raise ValueError(f"{text} is not a whole number of bytes")
    return size.numerator


def show_duration(seconds: float) -> str:
    """The shortest way to write it: the largest unit that needs no fraction."""
    exact = Fraction(Decimal(repr(seconds)))
    whole = _whole(exact, _DURATIONS)
    return f"{Decimal(repr(seconds)):f}s" if whole is None else whole


def show_size(size: int) -> str:
    """The shortest way to write it: the largest unit that needs no fraction."""
    return _whole(Fraction(size), _SIZES) or f"{size}B"


def _parse(text: str, units: Mapping[str, Fraction]) -> Fraction:
    written = _WRITTEN.fullmatch(text)
    if written is None:
        raise ValueError("a number and a unit are wanted, and nothing else")
    number, unit = written.groups()
    if unit not in units:
        raise ValueError(f"there is no unit {unit!r} here; use {', '.join(units)}")
    return Fraction(number) * units[unit]


def _whole(amount: Fraction, units: Mapping[str, Fraction]) -> str | None:
    if not amount:
        return f"0{'s' if 's' in units else 'B'}"
    for unit, factor in units.items():
        count = amount / factor
        if count.denominator == 1:
            return f"{count.numerator}{unit}"
    return None
