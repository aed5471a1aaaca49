"""Messages of the closed type set survive the wire; any other is a named error at the sender."""

from __future__ import annotations

import dataclasses
import datetime
import enum
from contextlib import suppress
from typing import Any

import msgspec
import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy
from test_peer_body import ARRAYS, HASHABLE, same

from zbus.engine.context import FLContext
from zbus.engine.shareable import Shareable
from zbus.engine.wire import body_of, check, message_of, peer_context_of
from zbus.errors import Malformed, UnencodableBody
from zbus.peer.body import decode_body, encode_body
from zbus.peer.packing import Code, pack
from zbus.peer.register import register


@register
class Phase(enum.Enum):
    TRAIN = 1
    SCORE = 2


@register
@dataclasses.dataclass
class Round:
    number: Any
    phase: Any


def shareable_of(content: dict[Any, Any], headers: dict[str, Any]) -> Shareable:
    shareable = Shareable(content)
    for key, value in headers.items():
        shareable.set_header(key, value)
    return shareable


def context_of(props: dict[str, Any], private: dict[str, Any]) -> FLContext:
    context = peer_context_of(props)
    for key, value in private.items():
        context.set_prop(key, value, sticky=False)
    return context


def few(values: SearchStrategy[Any]) -> SearchStrategy[dict[str, Any]]:
    return st.dictionaries(st.text(max_size=4), values, max_size=3)


LEAVES: SearchStrategy[Any] = HASHABLE | ARRAYS | st.sampled_from(Phase)
PARTS: SearchStrategy[Any] = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.builds(Round, inner, inner)
        | st.builds(shareable_of, few(inner), few(inner))
        | st.builds(context_of, few(inner), st.just({}))
    ),
    max_leaves=4,
)
SHAREABLES = st.builds(shareable_of, few(PARTS), few(PARTS))
PROPS = few(PARTS)


def trip(shareable: Shareable, props: dict[str, Any]) -> tuple[Shareable, dict[str, Any]]:
    return message_of(decode_body(*encode_body(body_of(shareable, props))))


def equal(one: Any, other: Any) -> bool:
    """As ``same``, and looking into what is registered."""
    if type(one) is not type(other):
        return False
    if isinstance(one, Round):
        return equal(one.number, other.number) and equal(one.phase, other.phase)
    if isinstance(one, FLContext):
        return equal(one.get_all_public_props(), other.get_all_public_props())
    if isinstance(one, dict):
        return same(list(one), list(other)) and equal(list(one.values()), list(other.values()))
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(equal, one, other))
    return same(one, other)


@given(SHAREABLES, PROPS)
def test_a_message_survives_the_wire(shareable: Shareable, props: dict[str, Any]) -> None:
    """Any Shareable and properties of the set come back equal, each part with its type."""
    came, came_props = trip(shareable, props)
    assert equal(came, shareable)
    assert equal(came_props, props)


@given(SHAREABLES)
def test_a_shareable_alone_is_a_body_too(shareable: Shareable) -> None:
    """Plain requests of the bus may carry one."""
    assert equal(decode_body(*encode_body(shareable)), shareable)


@given(PROPS, PROPS)
def test_a_context_survives_as_its_public_properties(
    props: dict[str, Any], private: dict[str, Any]
) -> None:
    """Public ones arrive, as public ones; private ones never leave."""
    context = context_of(props, {f"private {key}": value for key, value in private.items()})
    came = decode_body(*encode_body([context]))[0]
    assert equal(came.get_all_public_props(), props)
    assert came.get_prop_keys() == list(props)


class Foreign:
    """A type of the user's own."""


class Subclass(Shareable):
    """Another type than Shareable."""


FOREIGN = [Foreign(), object(), lambda: None, Subclass(), Foreign, 1j, ..., numpy.array([None])]


@pytest.mark.parametrize("value", FOREIGN)
@given(few(HASHABLE), st.sampled_from(["content", "header", "props"]))
def test_any_other_value_is_a_named_error(value: Any, content: dict[str, Any], where: str) -> None:
    """Anywhere in the message, its sender hears the type and the place; it is not dropped."""
    shareable = shareable_of(content, {})
    props: dict[str, Any] = {}
    if where == "content":
        shareable["odd one"] = [1, value]
    elif where == "header":
        shareable.set_header("odd one", [1, value])
    else:
        props["odd one"] = [1, value]
    with pytest.raises(UnencodableBody) as caught:
        check(shareable, props)
    assert "['odd one'][1]: " in str(caught.value)
    kind = "dtype" if isinstance(value, numpy.ndarray) else type(value).__qualname__
    assert kind in str(caught.value)


class Nothing:
    """Looks like a Shareable, and is none."""


@pytest.mark.parametrize("value", [{}, None, Nothing(), [1]])
def test_only_a_shareable_is_a_message(value: Any) -> None:
    """Anything else is a TypeError that names the argument."""
    with pytest.raises(TypeError, match="request must be a Shareable"):
        body_of(value, {})


def test_a_subclass_is_sent_as_a_shareable() -> None:
    """At the top of a message; within it would be another type, and is refused."""
    came, _ = trip(Subclass({"a": 1}), {})
    assert type(came) is Shareable
    assert came["a"] == 1


def test_the_senders_own_is_neither_changed_nor_kept() -> None:
    """What is sent is what it was; the receiver's is another."""
    shareable, props = Shareable({"a": 1}), {"b": [2]}
    body = body_of(shareable, props)
    shareable["late"] = props["late"] = [3]
    came, came_props = message_of(decode_body(*encode_body(body)))
    assert (came, came_props) == ({"a": 1, "__headers__": {}}, {"b": [2]})
    assert shareable == {"a": 1, "__headers__": {}, "late": [3]}


def test_an_array_rides_in_a_frame_and_arrives_read_only() -> None:
    """Its memory is not copied for sending."""
    weights = numpy.zeros(100_000)
    packed, frames = encode_body(body_of(Shareable({"w": weights}), {}))
    assert len(packed) < 200
    assert numpy.shares_memory(numpy.frombuffer(frames[0]), weights)
    came = message_of(decode_body(packed, frames))[0]["w"]
    assert not came.flags.writeable
    assert bool((came == weights).all())


def test_keys_and_numbers_that_flare_refuses_survive() -> None:
    """Int and tuple keys, ints beyond 64 bits, times."""
    content = {1: "a", (2, "b"): 2**70, "t": datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC)}
    came, _ = trip(Shareable(content), {})
    assert came == {**content, "__headers__": {}}


@pytest.mark.parametrize("headers", [[1], None, "text"])
def test_odd_headers_arrive_as_they_are(headers: Any) -> None:
    """The receiver sees what the sender did, and a missing header dict stays missing."""
    shareable = Shareable()
    shareable["__headers__"] = headers
    assert trip(shareable, {})[0]["__headers__"] == headers
    shareable.clear()
    assert trip(shareable, {})[0] == {}


@pytest.mark.parametrize("body", [None, {}, [], [{}], [{}, {}, {}], [{}, 1], [1, {}], ({}, {})])
def test_what_is_no_message_is_malformed(body: Any) -> None:
    """The receiver of a foreign body hears of it as such."""
    with pytest.raises(Malformed):
        message_of(body)
    with pytest.raises(Malformed):
        message_of([Shareable(), {}])


@pytest.mark.parametrize("parts", [1, None, [], "text"])
@pytest.mark.parametrize("name", ["zbus.engine.Shareable", "zbus.engine.FLContext"])
def test_forged_shareables_and_contexts_are_malformed(name: str, parts: Any) -> None:
    """Their parts are dicts; a context's keys are text."""
    for said in (parts, {1: 2}) if name.endswith("FLContext") else (parts,):
        body = pack(msgspec.msgpack.Ext(int(Code.OBJECT), pack([name, said])))
        with pytest.raises(Malformed):
            decode_body(body, ())


@given(st.binary(max_size=64))
def test_any_bytes_behind_the_mark_are_a_value_or_malformed(content: bytes) -> None:
    """Decoding is total for objects, too."""
    with suppress(Malformed):
        decode_body(pack(msgspec.msgpack.Ext(int(Code.OBJECT), content)), ())
