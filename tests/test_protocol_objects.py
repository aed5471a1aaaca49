"""The large bodies of one session: whose turn it is, what may be under way, what is owed."""

from __future__ import annotations

from typing import TypeVar

import pytest

from zbus.errors import Damaged, Malformed, TooLarge
from zbus.protocol.codec import decode_manifest, encode_manifest
from zbus.protocol.limits import FRAMES_MAX, Limits
from zbus.protocol.message import Accept, Chunk, Item, Manifest, Parcel, Request, Welcome
from zbus.protocol.objects import WINDOW, Mark, Objects

T = TypeVar("T", bound=Item)
WELCOME = Welcome(1, 1, 1_000, 10, 10, 10, (), 1_000)
REQUEST = Request("e", 1, 1, "t", "", 1_000, 16, 1, (), "", b"", 0)


def attached(objects_bytes: int = 1_000) -> Objects:
    objects = Objects(objects_bytes)
    objects.attached(WELCOME)
    return objects


def mark(number: int, reply: bool = False) -> Mark:
    return Mark("e", 1, number, reply)


def accept(number: int, after: int = 0, window: int = 100, rewind: bool = True) -> Accept:
    return Accept("e", 1, number, False, after, window, rewind)


def emitted(objects: Objects, kind: type[T]) -> list[T]:
    return [parcel.item for parcel in objects.emit() if isinstance(parcel.item, kind)]


def manifest(size: int) -> bytes:
    return encode_manifest(Manifest(10, (size,), 0))


def sending(count: int, size: int = 100) -> Objects:
    objects = attached()
    for number in range(1, count + 1):
        objects.offer(mark(number), bytes(size), (), None)
    return objects


# -- what is large --------------------------------------------------------------------------


def test_only_what_is_above_the_bound_is_large() -> None:
    """By what the Welcome allows, all frames together; and no more pieces than travel."""
    objects = attached()
    assert not objects.is_large(bytes(10), ())
    assert not objects.is_large(bytes(5), (bytes(5),))
    assert objects.is_large(bytes(11), ())
    assert objects.is_large(b"", (bytes(6), bytes(5)))
    assert objects.is_large(bytes(1_000), ())
    for body, frames in ((bytes(1_001), ()), (b"", (b"",) * (FRAMES_MAX + 1))):
        with pytest.raises(TooLarge):
            objects.is_large(body, frames)


def test_before_the_welcome_the_defaults_hold() -> None:
    """So that a request may be made before there is a broker."""
    limits = Limits()
    assert Objects().is_large(bytes(limits.body_max_bytes + 1), ())
    assert not Objects().is_large(bytes(limits.body_max_bytes), ())


def test_a_manifest_says_the_parts() -> None:
    """And chunks as large as a body may be that is not cut."""
    objects = attached()
    raw = objects.offer(mark(1), b"abc", (bytes(20), b""), None)
    found = decode_manifest(raw)
    assert (found.chunk, found.parts) == (10, (3, 20, 0))
    with pytest.raises(Malformed):
        decode_manifest(raw[:-1])


# -- sending --------------------------------------------------------------------------------


def test_bodies_take_turns() -> None:
    """Chunk by chunk, and all of them together have no more under way than one may have."""
    objects = sending(3)
    for number in (1, 2, 3):
        objects.accepted(accept(number))
    chunks = emitted(objects, Chunk)
    assert [(item.number, item.index) for item in chunks] == [(1, 0), (2, 0), (3, 0), (1, 1)]
    assert len(chunks) == WINDOW
    assert not objects.emit()
    objects.accepted(accept(3, 1, rewind=False))
    assert [(item.number, item.index) for item in emitted(objects, Chunk)] == [(2, 1)]


def test_who_ends_makes_room() -> None:
    """What was under way of a body that is dropped is under way no longer."""
    objects = sending(2)
    objects.accepted(accept(1))
    assert len(emitted(objects, Chunk)) == WINDOW
    objects.accepted(accept(2))
    assert not objects.emit()
    objects.drop(mark(1))
    assert {item.number for item in emitted(objects, Chunk)} == {2}
    assert objects.count == 1


def test_a_loss_ends_what_is_under_way() -> None:
    """Nothing is sent to the next broker before the receiver asks again (spec 14.3)."""
    objects = sending(1)
    objects.accepted(accept(1))
    assert len(emitted(objects, Chunk)) == WINDOW
    objects.accepted(accept(1, 2, rewind=False))
    objects.attached(WELCOME)
    assert not objects.emit()
    objects.accepted(accept(1, 3))
    assert [item.index for item in emitted(objects, Chunk)] == [3, 4, 5, 6]


def test_an_accept_of_nothing_is_counted() -> None:
    """Its sender is behind; nothing else happens."""
    objects = attached()
    assert objects.accepted(accept(9)) is None
    assert objects.strays == 1


# -- receiving ------------------------------------------------------------------------------


def expect(objects: Objects, number: int, size: int = 100) -> None:
    objects.expect(mark(number), manifest(size), REQUEST, 1.0)


def test_the_window_is_shared() -> None:
    """The more bodies come at once, the less is asked for of each; beyond that they wait."""
    objects = attached()
    expect(objects, 1)
    assert [item.window for item in emitted(objects, Accept)] == [WINDOW]
    for number in range(2, WINDOW + 3):
        expect(objects, number)
    asked = emitted(objects, Accept)
    assert [item.number for item in asked] == list(range(2, WINDOW + 1))
    assert {item.window for item in asked} == {1}
    objects.drop(mark(1))
    (item,) = emitted(objects, Accept)
    assert (item.number, item.rewind) == (WINDOW + 1, True)


def test_memory_is_shared_but_a_lone_body_has_its_room() -> None:
    """Two that do not fit together come one after the other."""
    objects = attached(150)
    expect(objects, 1)
    expect(objects, 2)
    assert [item.number for item in emitted(objects, Accept)] == [1]
    objects.drop(mark(1))
    assert [item.number for item in emitted(objects, Accept)] == [2]
    with pytest.raises(TooLarge):
        expect(objects, 3, 151)


@pytest.mark.parametrize(
    ("raw", "error"),
    [
        (b"x", Malformed),
        (encode_manifest(Manifest(10, (0, 0), 0)), Malformed),
        (encode_manifest(Manifest(10, (500, 501), 0)), TooLarge),
    ],
    ids=["no manifest", "no byte", "too large"],
)
def test_what_will_not_be_taken_is_refused(raw: bytes, error: type[Exception]) -> None:
    """And leaves nothing behind."""
    objects = attached(10_000)
    with pytest.raises(error):
        objects.expect(mark(1), raw, REQUEST, 1.0)
    assert not objects.count
    assert not objects.emit()


def _first_chunks(count: int) -> list[Parcel]:
    sender = sending(1)
    sender.accepted(accept(1))
    return [parcel for parcel in sender.emit() if isinstance(parcel.item, Chunk)][:count]


def test_each_chunk_is_acknowledged() -> None:
    """By the number of the next one; a repeat is dropped, and a gap asked for, but once."""
    objects = attached()
    expect(objects, 1)
    objects.emit()
    first, second, third = _first_chunks(3)
    assert objects.arrived(first) is not None
    assert [(one.next, one.rewind) for one in emitted(objects, Accept)] == [(1, False)]
    assert objects.arrived(first) is None
    assert not objects.emit()
    assert objects.arrived(third) is None
    assert [(one.next, one.rewind) for one in emitted(objects, Accept)] == [(1, True)]
    assert objects.arrived(third) is None
    assert not objects.emit()
    assert objects.arrived(second) is not None
    assert objects.arrived(third) is not None
    assert [(one.next, one.rewind) for one in emitted(objects, Accept)] == [(3, False)]
    assert objects.strays == 3


def test_a_second_offer_goes_on_and_another_begins_anew() -> None:
    """The same manifest is the same body; another one was made by another run."""
    objects = attached()
    expect(objects, 1)
    objects.emit()
    objects.arrived(_first_chunks(1)[0])
    expect(objects, 1)
    assert [(one.next, one.rewind) for one in emitted(objects, Accept)] == [(1, True)]
    expect(objects, 1, 99)
    assert [(one.next, one.rewind) for one in emitted(objects, Accept)] == [(0, True)]


def test_what_nobody_asked_for_is_not_taken() -> None:
    """A body that waits for its turn gets no chunk; nor does one that is not there."""
    objects = attached()
    assert objects.arrived(_first_chunks(1)[0]) is None
    expect(objects, 1)
    assert objects.arrived(_first_chunks(1)[0]) is None
    assert [one.next for one in emitted(objects, Accept)] == [0]


def test_a_damaged_body_is_thrown_away() -> None:
    """All of it, and its turn is another's."""
    objects = attached()
    expect(objects, 1)
    objects.emit()
    (first,) = _first_chunks(1)
    with pytest.raises(Damaged):
        objects.arrived(Parcel(first.item, (bytes(9) + b"x",)))
    assert not objects.count
    assert not objects.emit()


def test_bodies_of_one_that_asks_itself_are_told_apart() -> None:
    """It has the same body twice: as its sender, and as its receiver."""
    objects = attached()
    raw = objects.offer(mark(1), bytes(100), (), None)
    objects.expect(mark(1), raw, REQUEST, 1.0)
    (item,) = emitted(objects, Accept)
    assert objects.accepted(item) is not None
    assert objects.count == 2


def test_what_is_not_here_in_time_is_due() -> None:
    """The argument of a request, and the reply to one; both are then to be dropped."""
    objects = attached()
    expect(objects, 1)
    objects.offer(mark(2, reply=True), bytes(100), (), 2.0)
    assert objects.due(0.9) == []
    assert objects.due(1.0) == [mark(1)]
    objects.drop(mark(1))
    assert objects.due(3.0) == [mark(2, reply=True)]
    objects.clear()
    assert not objects.count
