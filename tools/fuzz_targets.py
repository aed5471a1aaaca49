"""What is fuzzed: every place where bytes of others come in, each as a function of bytes.

A target returns for any bytes at all, or it has found a fault: an exception that it raises, or an
assertion that does not hold. How the bytes are made is ``fuzz.py``'s.

Rules of this room:

* A target judges more than "it did not raise": what was taken must survive the way back.
* Bytes stand for frames as in ``frames_of``, so that one file of the corpus is one message.
* A target keeps nothing between two inputs, else a finding could not be repeated.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

from zbus.errors import Malformed, TooLarge, UnencodableBody, ZbusError
from zbus.peer.body import decode_body, encode_body, size_of
from zbus.protocol.broker import Broker
from zbus.protocol.codec import decode, encode
from zbus.protocol.effect import Lane, Route, Send
from zbus.protocol.limits import Limits
from zbus.protocol.message import MAGIC, Hello, Parcel, Role, Welcome
from zbus.protocol.session import Identity, Session

__all__ = ["TARGETS", "Frames", "Target", "bytes_of", "frames_of"]

Target = Callable[[bytes], None]
Frames = list[bytes | memoryview]
WELCOME = Welcome(
    session=1, broker=2, heartbeat_ms=1_000, body_max=1_000, open_max=10, push_window=10,
    pipe=("ipc:///pipe",), object_max=100_000,
)  # fmt: skip
_LENGTH_BYTES = 2
_TOPICS = ("echo", "note")
_INSTANTS_S = (0.0, 0.01, 0.5, 4.0, 60.0)


def frames_of(raw: bytes) -> Frames:
    """One byte says how many frames there are but the last, two bytes how long each of these is;
    then they come, as far as there is something, and the last one has all the rest. So most of
    what breaks a message breaks one frame."""
    if not raw:
        return []
    count, heads = raw[0], raw[1 : 1 + _LENGTH_BYTES * raw[0]]
    rest = raw[1 + _LENGTH_BYTES * count :]
    frames: Frames = []
    for at in range(0, len(heads), _LENGTH_BYTES):
        length = int.from_bytes(heads[at : at + _LENGTH_BYTES], "big")
        frames.append(rest[:length])
        rest = rest[length:]
    return [*frames, rest]


def bytes_of(frames: Sequence[bytes | memoryview]) -> bytes:
    """The bytes that stand for these frames, if there are not more than 256, and none but the
    last is longer than 65,535 bytes."""
    if not frames:
        return b""
    heads = [len(frame).to_bytes(_LENGTH_BYTES, "big") for frame in frames[:-1]]
    return bytes((len(heads),)) + b"".join([*heads, *map(bytes, frames)])


def message(raw: bytes) -> None:
    """The codec, over a whole message: parcels that say the same again, or Malformed."""
    parcels = _decoded(frames_of(raw))
    if parcels is not None:
        again = encode(parcels)
        assert decode(again) == parcels
        assert encode(decode(again)) == again


def header(raw: bytes) -> None:
    """The codec, over one header behind the signature."""
    parcels = _decoded([MAGIC + raw])
    if parcels is not None:
        assert all(type(parcel.item).__name__ for parcel in parcels)
        assert decode(encode(parcels)) == parcels


def hello(raw: bytes) -> None:
    """A stranger's first words to a broker: taken in, or sent away; never both, nor neither."""
    parcels = _decoded([MAGIC + b"\x91" + raw])
    if parcels is None or not isinstance(parcels[0].item, Hello):
        return
    broker = _broker()
    said = _sent(broker.receive(Route(Lane.FRONTEND, b"x"), parcels, 0.0))
    assert [type(item).__name__ for item in said][:1] in (["Welcome"], ["Bye"])
    attached = broker.roster.named(parcels[0].item.name) is not None
    assert attached is isinstance(said[0], Welcome)


def body(raw: bytes) -> None:
    """The body codec: a value, or Malformed. A value that can be said comes back with the same
    type, and takes as many bytes (not the same ones: the elements of a set have no order)."""
    frames = frames_of(raw)
    packed, rest = (bytes(frames[0]), tuple(frames[1:])) if frames else (b"", ())
    try:
        value = decode_body(packed, rest)
    except Malformed:
        return
    try:
        said = encode_body(value)
    except (UnencodableBody, TooLarge):
        return
    again = decode_body(*said)
    assert type(again) is type(value)
    assert size_of(*encode_body(again)) == size_of(*said)


def broker(raw: bytes) -> None:
    """A message at a broker, from a peer that it knows, at every door and over time: whatever it
    makes of it can be said, and the peers that were there before are there."""
    machine = _broker()
    for name, lane in (("first", Lane.FRONTEND), ("last", Lane.BACKEND)):
        role = Role.SERVER if lane is Lane.BACKEND else Role.ENGINE
        known = Hello(name, role, 1, _TOPICS if role is Role.SERVER else (), 8, b"")
        machine.receive(Route(lane, name.encode()), [Parcel(known)], 0.0)
    parcels = _decoded(frames_of(raw))
    if parcels is None:
        return
    route = Route(Lane.FRONTEND, b"x")
    machine.receive(route, [Parcel(Hello("fuzzed", Role.ENGINE, 1, (), 8, b"p"))], 0.0)
    for lane in (Lane.FRONTEND, Lane.PIPE):
        _sent(machine.receive(Route(lane, b"x"), parcels, 0.0))
    for name in ("first", "last"):
        assert machine.roster.named(name) is not None, f"{name} was sent away"
    for now in _INSTANTS_S:
        _sent(machine.tick(now))
    _sent(machine.close())


def session(raw: bytes) -> None:
    """A message from a broker, at a peer that has a request and a push open."""
    machine = Session(Identity(name="engine-1"), _TOPICS, now=0.0)
    machine.open(0.0)
    machine.receive(Route(Lane.BROKER), [Parcel(WELCOME)], 0.0)
    machine.push("note", b"\x01")
    parcels = _decoded(frames_of(raw))
    if parcels is None:
        return
    _sent(machine.receive(Route(Lane.BROKER), parcels, 0.0))
    for now in _INSTANTS_S:
        _sent(machine.tick(now))
    _sent(machine.close(60.0))


def _decoded(frames: Frames) -> list[Parcel] | None:
    try:
        return decode(frames)
    except Malformed:
        return None


def _broker() -> Broker:
    return Broker(Limits(restart_settle_s=0.0), itertools.count(1 << 61), pipe=("ipc:///pipe",))


def _sent(effects: Sequence[object]) -> list[object]:
    """What is to be sent, which must be something that others can read."""
    items: list[object] = []
    for effect in effects:
        if isinstance(effect, Send):
            assert decode(encode([effect.parcel])) == [effect.parcel]
            items.append(effect.parcel.item)
        elif isinstance(effect, ZbusError):
            raise effect
    return items


TARGETS: dict[str, Target] = {
    "message": message,
    "header": header,
    "hello": hello,
    "body": body,
    "broker": broker,
    "session": session,
}
