"""What cannot be sent is refused where it is asked for, and the refusal names the place."""

from __future__ import annotations

import collections
import datetime
import decimal
import enum
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zbus.errors import UnencodableBody
from zbus.peer.body import decode_body, encode_body
from zbus.peer.packing import INTEGER_MAX_BYTES, MAX_DEPTH, Code, Packing
from zbus.protocol.limits import INLINE_MAX_BYTES


class Foo:
    """A stranger, as a value and as a key."""

    def __repr__(self) -> str:
        raise AssertionError("a refused value must not be asked for its repr")


class Colour(enum.Enum):
    RED = 1


class Count(int):
    pass


class Pair(NamedTuple):
    left: int
    right: int


class Zone(datetime.tzinfo):
    """A zone of the user's, which runs the user's code while a datetime is encoded."""

    def __init__(self, act: Callable[[], object]) -> None:
        self._act = act

    def utcoffset(self, _moment: datetime.datetime | None) -> datetime.timedelta:
        self._act()
        return datetime.timedelta()

    def dst(self, _moment: datetime.datetime | None) -> None:
        return None

    def tzname(self, _moment: datetime.datetime | None) -> str:
        return "Erewhon"


def moment(act: Callable[[], object]) -> datetime.datetime:
    return datetime.datetime(2026, 1, 1, tzinfo=Zone(act))


def fail(error: type[BaseException]) -> Callable[[], object]:
    def raise_it() -> None:
        raise error

    return raise_it


FOO = "a value of type test_peer_packing.Foo cannot be sent"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Foo(), f"body: {FOO}"),
        ({"weights": [1, 2, Foo()]}, f"body['weights'][2]: {FOO}"),
        ({"a": {7: (0, {Foo()})}}, f"body['a'][7][1][0]: {FOO}"),
        ({"a": 1, Foo(): 2}, f"body{{key test_peer_packing.Foo}}: {FOO}"),
        ({("x", Foo()): 2}, f"body{{key tuple}}[1]: {FOO}"),
        ({(1,): Foo()}, f"body[tuple]: {FOO}"),
        ({"k" * 900: Foo()}, f"body['{'k' * 39}]: {FOO}"),
        ([Colour.RED], "body[0]: a value of type test_peer_packing.Colour cannot be sent"),
        ([Count(3)], "body[0]: a value of type test_peer_packing.Count cannot be sent"),
        ([Pair(1, 2)], "body[0]: a value of type test_peer_packing.Pair cannot be sent"),
        (decimal.Decimal(1), "body: a value of type decimal.Decimal cannot be sent"),
        (iter([]), "body: a value of type list_iterator cannot be sent"),
        (collections.OrderedDict(), "body: a value of type collections.OrderedDict cannot be sent"),
        ({"t": ["ok", "\ud800"]}, "body['t'][1]: text with lone surrogates"),
        ({"\udfff": 1}, "body{key '\\udfff'}: text with lone surrogates"),
        ([0, 1 << 8 * INTEGER_MAX_BYTES], f"body[1]: an int of {INTEGER_MAX_BYTES + 1} bytes"),
        ([numpy.array([Foo()])], "body[0]: arrays of dtype '|O' are not sent"),
        ({"m": numpy.ma.masked_array([1])}, "body['m']: only plain arrays are sent"),
        ([moment(fail(ZeroDivisionError))], "body: ZeroDivisionError while"),
    ],
)
def test_a_refusal_names_the_type_and_the_place(value: Any, text: str) -> None:
    """The message has the path from the body to the culprit, and its type."""
    with pytest.raises(UnencodableBody) as refused:
        encode_body(value)
    assert refused.value.what.startswith(text)


def test_a_value_that_contains_itself_is_refused() -> None:
    """A cycle ends at the bound on depth, and the message stays short."""
    for cycle in cycles():
        with pytest.raises(UnencodableBody, match="or in itself") as refused:
            encode_body(cycle)
        assert len(refused.value.what) < 250


def cycles() -> Iterator[Any]:
    loop: list[Any] = []
    loop.append(loop)
    yield loop
    ring: dict[str, Any] = {}
    ring["next"] = [ring]
    yield ring
    twice: list[Any] = []
    twice += [twice, (twice, 1)]
    yield twice


@given(st.lists(st.integers(0, 5), max_size=MAX_DEPTH - 1), st.booleans())
def test_any_place_is_named_exactly(path: list[int], in_tuples: bool) -> None:
    """Following the marks of the message leads to the culprit."""
    value: Any = Foo()
    for index in reversed(path):
        value = [*range(index), value]
        value = tuple(value) if in_tuples else value
    with pytest.raises(UnencodableBody) as refused:
        encode_body(value)
    marks = [f"[{index}]" for index in path]
    if len(marks) > 8:
        marks = [*marks[:4], " ... ", *marks[-4:]]
    assert refused.value.what == f"body{''.join(marks)}: {FOO}"


def test_a_change_by_another_thread_is_told() -> None:
    """A dict that changes while it is encoded is refused, not half sent."""
    value: dict[str, Any] = {"at": moment(lambda: value.update(more=1)), "then": 2}
    with pytest.raises(UnencodableBody, match="RuntimeError while"):
        encode_body(value)


def test_an_encoding_that_runs_out_of_memory_says_so() -> None:
    """A lack of memory is no fault of the body's."""
    with pytest.raises(MemoryError):
        encode_body(moment(fail(MemoryError)))


def test_frames_are_named_in_order() -> None:
    """The n-th long buffer is the n-th frame, with its whole length."""
    values = [bytes([n]) * (INLINE_MAX_BYTES + n) for n in range(3)]
    _, frames = Packing().whole(values)
    assert frames == values


def test_the_codes_stand_still() -> None:
    """The extension codes are on the wire; a change of one is a new protocol."""
    assert [int(code) for code in Code] == list(range(1, 12))
    assert decode_body(b"\xc7\x03\x01\x92\x01\x02", ()) == (1, 2)
    assert decode_body(b"\xd5\x02\x91\x01", ()) == {1}
    assert decode_body(b"\xd5\x03\x91\x01", ()) == frozenset({1})
    assert decode_body(b"\xc7\x03\x04\x92\xc0\x01", ()) == {None: 1}
    assert decode_body(b"\xc7\x09\x05\x01" + bytes(8), ()) == 2**64
    assert decode_body(b"\xc7\x0b\x07\xaa2026-07-01", ()) == datetime.date(2026, 7, 1)
