"""The strategies: what they call valid is, every kind is reached, and every name has an example."""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Callable, Hashable, Iterator
from dataclasses import fields
from typing import Any, get_args

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from zbus.errors import every_error
from zbus.peer.body import decode_body, encode_body
from zbus.protocol.codec import decode, encode
from zbus.protocol.limits import FRAMES_MAX, NAME_MAX
from zbus.protocol.message import (
    AGAIN,
    UNKNOWN_ID,
    Cause,
    Chunk,
    Flag,
    Item,
    Parcel,
    Push,
    Reply,
    Request,
)
from zbus.protocol.topics import is_name, is_reserved
from zbus.testing import strategies as zst
from zbus.testing.faults import PERFECT, Faults

ONE_PER_KIND = [
    zst.hellos, zst.welcomes, zst.heartbeats, zst.byes, zst.requests, zst.replies,
    zst.fault_items, zst.cancels, zst.pushes, zst.credit_items, zst.serves,
    zst.offers, zst.accepts, zst.chunks, zst.dones,
]  # fmt: skip


def seen(
    strategy: SearchStrategy[Any], feature: Callable[[Any], Hashable], examples: int = 300
) -> Counter[Hashable]:
    """How often each feature comes up; the same examples each time."""
    counts: Counter[Hashable] = Counter()

    @settings(max_examples=examples, derandomize=True, database=None)
    @given(strategy)
    def look(example: Any) -> None:
        counts[feature(example)] += 1

    look()
    return counts


@pytest.mark.parametrize("name", [name for name in zst.__all__ if name != "Body"])
def test_every_strategy_says_what_it_makes_with_an_example(name: str) -> None:
    """The docstring of each shows a value, or how a test uses it."""
    text = inspect.getdoc(getattr(zst, name)) or ""
    assert "``" in text or "::" in text, text


# -- words ----------------------------------------------------------------------------------


@given(zst.names(), zst.topics())
def test_names_and_topics_keep_the_grammar(name: str, topic: str) -> None:
    """Every name may be a peer's, and every topic may be served."""
    assert is_name(name)
    assert is_name(topic)
    assert not is_reserved(topic)


def test_names_reach_their_bounds() -> None:
    """The shortest and the longest are tried, with dots and without."""
    assert {1, NAME_MAX} <= set(seen(zst.names(), len))
    assert {0, 1, 2} <= set(seen(zst.names(), lambda name: name.count(".")))


@given(zst.bodies())
def test_bodies_survive_the_body_codec(body: zst.Body) -> None:
    """A body comes out equal and of the same types: a tuple is no list, and 1 no True."""
    event(type(body).__name__)
    packed, frames = encode_body(body)
    assert typed(decode_body(packed, frames)) == typed(body)


def typed(value: object) -> object:
    """The value with its types beside it, so that what is equal but not the same differs."""
    if isinstance(value, list | tuple):
        return type(value), [typed(item) for item in value]
    if isinstance(value, dict):
        return dict, {key: typed(item) for key, item in value.items()}
    return type(value), value


def test_bodies_reach_every_type() -> None:
    """Nobody who tests with them misses a type that JSON has not."""
    types = {dict, list, tuple, bytes, str, int, float, bool, type(None)}
    reached: set[type] = set()
    seen(zst.bodies(), lambda body: reached.update(types_within(body)))
    assert reached == types


def types_within(value: Any) -> Iterator[type]:
    """The types of a value and of all that is in it."""
    yield type(value)
    if isinstance(value, dict | list | tuple):
        for part in value.values() if isinstance(value, dict) else value:
            yield from types_within(part)


@given(zst.seeds())
def test_seeds_are_for_any_generator(seed: int) -> None:
    """They fit 64 bits, so that a seed can be printed, typed and stored anywhere."""
    assert 0 <= seed < 2**64


# -- items ----------------------------------------------------------------------------------


@given(st.one_of([make() for make in ONE_PER_KIND]))
def test_items_stand_alone(item: Item) -> None:
    """Items of the strategies count no frames and get through the codec as they are."""
    assert decode(encode([Parcel(item)])) == [Parcel(item)]


@pytest.mark.parametrize(("make", "kind"), list(zip(ONE_PER_KIND, get_args(Item), strict=True)))
def test_each_kind_has_its_strategy(make: Callable[[], SearchStrategy[Item]], kind: type) -> None:
    """Each makes its kind and no other."""
    assert set(seen(make(), type, examples=20)) == {kind}


def test_items_reach_every_kind() -> None:
    """No kind is left to luck; of Heartbeats there is only one to be seen."""
    counts = seen(zst.items(), type, examples=1_000)
    assert set(counts) == set(get_args(Item))
    assert sorted(counts.values())[1] >= 5, counts


def test_requests_reach_every_flag_and_both_ways_of_routing() -> None:
    """Every flag is set and not set, and requests go to a name and to a topic."""
    flags = seen(zst.requests(), lambda item: item.flags)
    for flag in Flag:
        assert len({bool(some & flag) for some in flags if isinstance(some, int)}) == 2
    assert len(seen(zst.requests(), lambda item: item.target == "")) == 2


def test_faults_reach_the_codes_and_others_that_nobody_knows() -> None:
    """A receiver must do something sensible with a newer peer's code (spec 3.2)."""
    registered = {error.number for error in every_error()}
    codes = set(seen(zst.fault_items(), lambda item: item.code))
    assert {AGAIN, UNKNOWN_ID} <= codes
    assert len(registered & codes) >= len(registered) // 2
    assert codes - registered - {AGAIN, UNKNOWN_ID}


def test_byes_reach_every_cause() -> None:
    """A machine that is fed with them meets every way to be sent away."""
    assert set(seen(zst.byes(), lambda item: item.cause)) == set(Cause)


# -- parcels, messages, frames --------------------------------------------------------------


@pytest.mark.parametrize("kind", [Request, Reply, Push, Chunk])
def test_parcels_reach_frames_of_every_kind_that_counts_them(kind: type) -> None:
    """Bodies that are none, one and several frames are tried for each of the four kinds."""
    counts = seen(
        zst.parcels(),
        lambda parcel: (type(parcel.item), min(len(parcel.frames), 2)),
        examples=2_000,
    )
    assert {(kind, 0), (kind, 1), (kind, 2)} <= set(counts)


@given(zst.messages())
def test_messages_keep_the_bounds(parcels: list[Parcel]) -> None:
    """What a message says is never empty, and has no more frames than a message may."""
    assert parcels
    assert sum(len(parcel.frames) for parcel in parcels) <= FRAMES_MAX


@given(zst.frames())
def test_frames_are_of_valid_messages(frames: list[bytes | memoryview]) -> None:
    """The codec takes them all."""
    assert decode(frames)


def test_messages_are_not_all_alike() -> None:
    """One parcel and several, with frames and without, all come up often."""
    counts = seen(
        zst.messages(),
        lambda parcels: (len(parcels) == 1, any(parcel.frames for parcel in parcels)),
    )
    assert len(counts) == 4
    assert min(counts.values()) >= 5, counts


# -- simulations ----------------------------------------------------------------------------


def test_faults_reach_every_kind() -> None:
    """None at all, and each kind of fault that chance may decide, come up."""
    drawn = list(seen(zst.faults(), lambda faults: faults))
    assert PERFECT in drawn
    for kind in fields(Faults):
        values = {getattr(faults, kind.name) for faults in drawn}
        untried = {"delay_min_s", "cut_breaks_s", "frame_max_bytes"}
        assert len(values) > 1 or kind.name in untried, kind.name
