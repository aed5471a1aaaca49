"""Durations and sizes with their units: zbus/broker/units.py."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zbus.broker.units import parse_duration, parse_size, show_duration, show_size


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("250ms", 0.25),
        ("300ms", 0.3),
        ("0s", 0.0),
        ("1s", 1.0),
        ("1.5s", 1.5),
        ("1.5 s", 1.5),
        ("2min", 120.0),
        ("0.5h", 1800.0),
    ],
)
def test_durations_are_read_exactly(text: str, seconds: float) -> None:
    """A duration is the float nearest to what is written."""
    assert seconds == parse_duration(text)


@pytest.mark.parametrize(
    ("text", "size"),
    [("0B", 0), ("512B", 512), ("64KiB", 65_536), ("1.5MiB", 1_572_864), ("2GiB", 2**31)],
)
def test_sizes_are_read_exactly(text: str, size: int) -> None:
    """A size is a whole number of bytes, also where it is written with a fraction."""
    assert size == parse_size(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1",
        "s",
        "1S",
        "1m",
        "1 hour",
        "-1s",
        "+1s",
        "1e3s",
        ".5s",
        "1.s",
        " 1s",
        "1s ",
        "1s\n",
        "1  s",
        "\u0661s",
        "inf s",
        "nan",
        "1ms2",
        "1MiB",
        "9" * 19 + "s",
    ],
)
def test_what_is_no_duration_is_refused(text: str) -> None:
    """A bare number, another unit or anything around it is a ValueError."""
    with pytest.raises(ValueError, match="unit"):
        parse_duration(text)


@pytest.mark.parametrize("text", ["", "1", "1MB", "1mib", "1Mi", "-1B", "1s", "1 K", "0x10B"])
def test_what_is_no_size_is_refused(text: str) -> None:
    """Decimal units are refused as well, so that 1MB and 1MiB are never taken for each other."""
    with pytest.raises(ValueError, match="unit"):
        parse_size(text)


def test_half_a_byte_is_refused() -> None:
    """A fraction must come out as whole bytes."""
    with pytest.raises(ValueError, match="whole number of bytes"):
        parse_size("0.5B")


def test_an_unknown_unit_names_those_that_exist() -> None:
    """The message helps: it lists the units."""
    with pytest.raises(ValueError, match="h, min, s, ms"):
        parse_duration("3 d")
    with pytest.raises(ValueError, match="GiB, MiB, KiB, B"):
        parse_size("3 kB")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0, "0s"), (0.25, "250ms"), (1.0, "1s"), (90.0, "90s"), (120.0, "2min"), (3600.0, "1h")],
)
def test_the_shortest_duration_is_shown(seconds: float, text: str) -> None:
    """The largest unit that needs no fraction."""
    assert text == show_duration(seconds)


def test_the_shortest_size_is_shown() -> None:
    """The largest unit that needs no fraction."""
    assert [show_size(size) for size in (0, 513, 65_536, 1_048_576, 3 * 2**30)] == [
        "0B",
        "513B",
        "64KiB",
        "1MiB",
        "3GiB",
    ]


@given(
    st.floats(min_value=0, max_value=1e9, allow_subnormal=False).filter(lambda s: not 0 < s < 1e-9)
)
def test_a_shown_duration_is_read_back(seconds: float) -> None:
    """Showing loses nothing."""
    assert seconds == parse_duration(show_duration(seconds))


@given(st.integers(min_value=0, max_value=2**50))
def test_a_shown_size_is_read_back(size: int) -> None:
    """Showing loses nothing."""
    assert size == parse_size(show_size(size))


@given(st.text() | st.from_regex(r"\d+(\.\d+)? ?[a-zA-Z]+"))
def test_any_text_is_a_value_or_a_value_error(text: str) -> None:
    """No text makes anything else happen."""
    for parse in (parse_duration, parse_size):
        try:
            assert parse(text) >= 0
        except ValueError:
            continue
