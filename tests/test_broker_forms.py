"""The forms of settings' values: zbus/broker/forms.py."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import TypeVar, cast

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from zbus.broker.forms import (
    Choice,
    Count,
    Directory,
    Duration,
    Endpoints,
    Form,
    OptionalPath,
    Size,
    Switch,
)

T = TypeVar("T")
LENGTH = Duration(0.05, 3600.0)
ROOM = Size(1, 2**30)
NUMBER = Count(1, 1_000)
WORDS = Choice(("debug", "info"))
FORMS = cast(
    "list[Form[object]]", [LENGTH, ROOM, NUMBER, WORDS, Switch(), Directory(), Endpoints()]
)


def again(form: Form[T], value: T) -> T:
    """The value, shown as TOML and read again."""
    return form.read(tomllib.loads(f"x = {form.show(value)}")["x"])


@given(st.integers(50, 3_600_000))
def test_a_shown_duration_is_read_back(millis: int) -> None:
    """As TOML, over the whole range."""
    assert millis / 1000 == again(LENGTH, millis / 1000)


@given(st.integers(1, 2**30))
def test_a_shown_size_is_read_back(size: int) -> None:
    """As TOML, over the whole range."""
    assert size == again(ROOM, size)


@given(st.integers(1, 1_000), st.booleans(), st.sampled_from(WORDS.words))
def test_shown_counts_switches_and_choices_are_read_back(count: int, on: bool, word: str) -> None:
    """As TOML and as text."""
    assert (count, on, word) == (again(NUMBER, count), again(Switch(), on), again(WORDS, word))
    assert (count, on) == (NUMBER.read_text(str(count)), Switch().read_text(str(on).lower()))


@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])))
@example('\x7f\x01"\\\n')
def test_a_shown_directory_is_read_back(name: str) -> None:
    """Whatever characters its path holds, also those that TOML must escape."""
    assert Path("/run", name) == again(Directory(), Path("/run", name))


@given(st.lists(st.integers(1, 65_535), min_size=1, max_size=16, unique=True))
def test_shown_endpoints_are_read_back(ports: list[int]) -> None:
    """As TOML, and as text with commas."""
    listed = tuple(f"tcp://127.0.0.1:{port}" for port in ports)
    assert listed == again(Endpoints(), listed)
    assert listed == Endpoints().read_text(", ".join(listed))


def test_one_endpoint_needs_no_list() -> None:
    """A lone text is a list of one."""
    assert Endpoints().read("ipc:///a") == ("ipc:///a",)


@pytest.mark.parametrize(
    ("form", "value"),
    [
        (LENGTH, 1),
        (LENGTH, "49ms"),
        (LENGTH, "61min"),
        (LENGTH, True),
        (ROOM, "0B"),
        (ROOM, "2GiB"),
        (ROOM, 1024),
        (NUMBER, 0),
        (NUMBER, 1_001),
        (NUMBER, "5"),
        (NUMBER, 5.0),
        (NUMBER, True),
        (WORDS, "INFO"),
        (WORDS, 1),
        (Switch(), "true"),
        (Switch(), 1),
        (Directory(), "run/zbus"),
        (Directory(), ""),
        (Directory(), "/run\0"),
        (Directory(), ["/run"]),
        (Endpoints(), []),
        (Endpoints(), [1]),
        (Endpoints(), ["ipc:///a", "ipc:///a"]),
        (Endpoints(), "tcp://*:5"),
        (Endpoints(), [f"ipc:///{number}" for number in range(17)]),
    ],
)
def test_what_does_not_fit_is_refused(form: Form[object], value: object) -> None:
    """Another type, another unit, beyond a bound: a ValueError with a reason."""
    with pytest.raises(ValueError, match=r"\w"):
        form.read(value)


@pytest.mark.parametrize(
    ("form", "text"),
    [
        (NUMBER, "-1"),
        (NUMBER, "1.0"),
        (NUMBER, "\u0665"),
        (NUMBER, "9" * 5_000),
        (NUMBER, ""),
        (Switch(), "True"),
        (Switch(), "1"),
        (Switch(), ""),
        (Endpoints(), ""),
    ],
)
def test_text_that_does_not_fit_is_refused(form: Form[object], text: str) -> None:
    """The environment is as strict as the file."""
    with pytest.raises(ValueError, match=r"\w"):
        form.read_text(text)


def test_the_bounds_themselves_fit() -> None:
    """Both ends belong to the range, and the message beyond one names it."""
    assert (LENGTH.read("50ms"), LENGTH.read("1h")) == (0.05, 3600.0)
    assert (NUMBER.read(1), NUMBER.read(1_000)) == (1, 1_000)
    with pytest.raises(ValueError, match="below 50ms"):
        LENGTH.read("49ms")
    with pytest.raises(ValueError, match="above 1GiB"):
        ROOM.read("1073741825B")


@given(
    st.sampled_from(FORMS),
    st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists),
)
def test_any_value_is_read_or_a_value_error(form: Form[object], value: object) -> None:
    """No value of TOML makes anything else happen, and what was read can be shown."""
    try:
        read = form.read(value)
    except ValueError:
        return
    assert read == again(form, read)


@pytest.mark.parametrize("form", FORMS)
def test_every_form_says_what_it_expects(form: Form[object]) -> None:
    """The sentence that ends the message of a wrong value."""
    assert len(form.expected) > 10


def test_an_optional_path_is_absolute_or_nothing() -> None:
    """Nothing is an empty text, in a file as in a flag."""
    form = OptionalPath("a file")
    assert form.read("") is None
    assert form.read_text("/a/b") == Path("/a/b")
    assert [form.show(value) for value in (None, Path("/a"))] == ['""', '"/a"']
    for wrong in ("a/b", "/a\0"):
        with pytest.raises(ValueError, match="no absolute path"):
            form.read_text(wrong)
    with pytest.raises(ValueError, match="no text"):
        form.read(5)
