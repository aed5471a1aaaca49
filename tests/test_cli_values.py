"""Bodies in words, both ways."""

from __future__ import annotations

import base64
import datetime
import io
import json
import math
from typing import Any

import click
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zbus.cli.values import parsed_json, plain, shown, typed_body

scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.binary()
    | st.datetimes()
    | st.dates()
)
bodies = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner)
        | st.tuples(inner, inner)
        | st.sets(scalars.filter(lambda value: value == value))
        | st.dictionaries(scalars, inner)
    ),
    max_leaves=20,
)
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(bodies)
def test_every_body_has_a_form(body: Any) -> None:
    """Both forms are JSON that everybody can read: no NaN, one line."""
    for text in (json.dumps(plain(body), allow_nan=False), shown(body)):
        json.loads(text, parse_constant=lambda name: pytest.fail(name))
        assert "\n" not in text


@given(json_values)
def test_what_json_can_say_is_said_as_it_is(body: Any) -> None:
    """And comes back from the command line as the same body."""
    assert plain(body) == body
    assert parsed_json(json.dumps(body)) == body


def test_for_programs_nothing_is_lost() -> None:
    """Bytes and arrays can be had back."""
    said = plain({"raw": b"\x00\xff", "array": np.arange(6, dtype="<i2").reshape(2, 3)})
    assert base64.b64decode(said["raw"]["base64"]) == b"\x00\xff"
    array = said["array"]
    again = np.frombuffer(base64.b64decode(array["base64"]), array["dtype"])
    assert (again.reshape(array["shape"]) == np.arange(6).reshape(2, 3)).all()


def test_for_people_buffers_are_summed_up() -> None:
    """A weight matrix does not fill the screen."""
    assert shown(b"abc") == '"<3 bytes>"'
    assert shown([np.zeros((3, 4), "f4")]) == '["<float32 array 3x4>"]'


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (math.nan, "nan"),
        (math.inf, "inf"),
        ((1, (2,)), [1, [2]]),
        ({3, 1, 2}, [1, 2, 3]),
        (datetime.date(2026, 1, 2), "2026-01-02"),
        (datetime.datetime(2026, 1, 2, 3, tzinfo=datetime.UTC), "2026-01-02T03:00:00+00:00"),
        ({1: "a", None: "b"}, {"1": "a", "null": "b"}),
        ({1: "a", "1": "b"}, [[1, "a"], ["1", "b"]]),
        (np.float32(0.5), 0.5),
        (np.int64(7), 7),
        (np.bool_(True), True),
        (np.complex64(1j), "1j"),
        (np.datetime64("2026-01-02"), "2026-01-02"),
        (np.array(3), 3),
    ],
)
def test_what_json_has_no_word_for(value: Any, said: Any) -> None:
    """It becomes the nearest that there is."""
    assert plain(value) == said
    assert json.loads(json.dumps(plain(value), allow_nan=False)) == said


class Input:
    """A standard input."""

    def __init__(self, content: bytes) -> None:
        self.buffer = io.BytesIO(content)


def test_what_was_typed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Text is text, ``-`` is standard input, nothing is None."""
    assert typed_body("hi", is_json=False) == "hi"
    assert typed_body('{"a": 1}', is_json=False) == '{"a": 1}'
    assert typed_body('{"a": 1}', is_json=True) == {"a": 1}
    assert typed_body(None, is_json=False) is None
    for content, is_json, body in (
        ("grü\n".encode(), False, "grü\n"),
        (b"\xff\x00", False, b"\xff\x00"),
        (b"[1]\n", True, [1]),
    ):
        monkeypatch.setattr("sys.stdin", Input(content))
        assert typed_body("-", is_json=is_json) == body


@pytest.mark.parametrize("text", ["{", "", "'a'", "[" * 100_000])
def test_what_is_no_json_is_wrong_usage(text: str) -> None:
    """It is told before anything is sent."""
    with pytest.raises(click.UsageError, match="no JSON"):
        typed_body(text, is_json=True)
    with pytest.raises(click.UsageError, match="needs a BODY"):
        typed_body(None, is_json=True)
