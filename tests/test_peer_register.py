"""Only registered types are sent and made, under names that both ends know."""

from __future__ import annotations

import dataclasses
import enum
from typing import Any

import msgspec
import pytest

from zbus.errors import Malformed, UnencodableBody
from zbus.peer.body import decode_body, encode_body
from zbus.peer.packing import MAX_DEPTH, Code, pack
from zbus.peer.register import form_named, form_of, register, register_form


@register
class Colour(enum.Enum):
    RED = 1
    GREEN = (2, "two")


@register
class Word(enum.StrEnum):
    YES = "yes"


@register
class Rights(enum.Flag):
    READ = 1
    WRITE = 2


@register
@dataclasses.dataclass(frozen=True)
class Point:
    x: Any
    y: Any = 0


class Unknown(enum.Enum):
    A = 1


def trip(value: Any) -> Any:
    return decode_body(*encode_body(value))


VALUES: list[Any] = [
    Colour.RED,
    [Colour.GREEN, Word.YES],
    Rights.READ | Rights.WRITE,
    Rights(0),
    Point(1, [Point((2,), Colour.RED)]),
    {Colour.RED: Point(b"x" * 100_000)},
    {Point(1), Point(2)},
]


@pytest.mark.parametrize("value", VALUES)
def test_registered_values_survive(value: Any) -> None:
    """Alone, in each other, in containers, as keys, with buffers in frames."""
    came = trip(value)
    assert (came, type(came)) == (value, type(value))


def test_a_word_that_is_text_keeps_its_type() -> None:
    """A StrEnum's member does not come back as the text that it equals."""
    assert type(trip(Word.YES)) is Word


@pytest.mark.parametrize("value", [Unknown.A, [{"a": Unknown.A}], Point(1, Unknown.A)])
def test_what_is_not_registered_is_refused_by_name(value: Any) -> None:
    """At the sender; the message has the type and the place."""
    with pytest.raises(UnencodableBody, match=r"^body.*: a value of type test_peer_register\.Unk"):
        encode_body(value)


def forged(*content: Any) -> bytes:
    return pack(msgspec.msgpack.Ext(int(Code.OBJECT), pack(content)))


POINT = "test_peer_register.Point"


@pytest.mark.parametrize(
    "content",
    [
        ("os.system", "true"),
        ("", {}),
        (1, {}),
        (None, None),
        (["a"], 1),
        (POINT,),
        (POINT, {"x": 1, "y": 2}, 3),
        (POINT, {"x": 1}),
        (POINT, {"x": 1, "y": 2, "z": 3}),
        (POINT, [1, 2]),
        ("test_peer_register.Colour", "BLUE"),
        ("test_peer_register.Colour", "__class__"),
        ("test_peer_register.Colour", ["RED"]),
        ("test_peer_register.Rights", "READ"),
    ],
)
def test_forged_values_are_malformed(content: Any) -> None:
    """An unknown name, or parts that no value of the type has: nothing is made."""
    with pytest.raises(Malformed):
        decode_body(forged(*content), ())


def test_depth_is_bounded_through_registered_values() -> None:
    """They count as containers, on both sides."""
    value: Any = 1
    for _ in range(MAX_DEPTH // 2):  # Each counts, and so does the dict of its fields.
        value = Point(value)
    assert trip(value) == value
    with pytest.raises(UnencodableBody, match="in each other"):
        encode_body(Point(value))
    packed: Any = 1
    for _ in range(40):
        packed = ("test_peer_register.Point", {"x": packed, "y": 0})
        packed = msgspec.msgpack.Ext(int(Code.OBJECT), pack(packed))
    with pytest.raises(Malformed):
        decode_body(pack(packed), ())


def test_registering_is_done_once() -> None:
    """The same again changes nothing; a second meaning is refused."""
    register(Colour)
    assert form_of(Colour) is form_named("test_peer_register.Colour")
    with pytest.raises(ValueError, match="registered already"):
        register(Colour, "other")
    with pytest.raises(ValueError, match="registered already"):
        register_form("test_peer_register.Colour", Unknown, str, str)
    assert form_of(Unknown) is None


def test_only_enums_and_dataclasses_register_themselves() -> None:
    """And of dataclasses those that their constructor makes whole."""

    @dataclasses.dataclass
    class Made:
        x: int = dataclasses.field(init=False, default=1)

    with pytest.raises(TypeError, match="neither an enum nor a dataclass"):
        register(int)
    with pytest.raises(TypeError, match="does not take"):
        register(Made)
