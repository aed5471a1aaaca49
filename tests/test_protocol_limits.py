"""The bounds: what the page says they are, fitting into each other, and kept exactly."""

from __future__ import annotations

import dataclasses
import re
import tracemalloc
from pathlib import Path

import msgpack
import pytest

from zbus.errors import Malformed
from zbus.protocol import limits, liveness
from zbus.protocol.codec import decode, encode
from zbus.protocol.limits import (
    BATCH_ITEMS_MAX,
    BATCH_MAX_BYTES,
    FRAMES_MAX,
    HEADER_MAX_BYTES,
    INLINE_MAX_BYTES,
    NAME_MAX,
    PIPES_MAX,
    PUSH_BATCH_MAX,
    STRAGGLERS_MAX,
    TEXT_MAX,
    TOPICS_MAX,
    Limits,
)
from zbus.protocol.message import (
    MAGIC,
    Bye,
    Cancel,
    Cause,
    Heartbeat,
    Hello,
    Item,
    Parcel,
    Push,
    Reply,
    Request,
    Role,
    Serve,
    Welcome,
)

PAGE = (Path(__file__).resolve().parent.parent / "docs" / "protocol.md").read_text("utf-8")
ON_THE_PAGE = {
    name: int(figure.replace(",", ""))
    for figure, name in re.findall(r"^\|[^|]+\| ([\d,]+) \| `([A-Z_]+)` \|$", PAGE, re.MULTILINE)
}
LONGEST = "n" * NAME_MAX
BIGGEST = 2**63 - 1


def test_every_constant_is_on_the_page() -> None:
    """Section 3.4 lists every maximum of the protocol, with the figure that the code keeps."""
    constants = {
        name: value for name, value in vars(limits).items() if name.isupper() and name[0] != "_"
    }
    del constants["NAME_PATTERN"]
    assert constants == ON_THE_PAGE


def test_the_figures_of_liveness_are_on_the_page() -> None:
    """Section 8 says how long silence lasts before a verdict, as the code has it."""
    patient, idle = re.findall(r"^\|[^|]+\| ([\d.]+) intervals \|$", PAGE, re.MULTILINE)
    assert (float(patient), float(idle)) == (liveness.PATIENCE, liveness.PATIENCE_IDLE)
    assert liveness.BEATS_WHEN_BUSY == 4
    assert "four times as often" in PAGE


@pytest.mark.parametrize(
    "item",
    [
        Hello(LONGEST, Role.SERVER, BIGGEST, (LONGEST,) * TOPICS_MAX, BIGGEST, bytes(256)),
        Serve((LONGEST,) * TOPICS_MAX, (LONGEST,) * TOPICS_MAX),
        Request(
            LONGEST, BIGGEST, BIGGEST, LONGEST, LONGEST, 2**53, 15, BIGGEST,
            (BIGGEST,) * STRAGGLERS_MAX, "0" * 64, bytes(INLINE_MAX_BYTES), 0,
        ),
        Push(
            BIGGEST, LONGEST, BIGGEST, LONGEST, BIGGEST, BIGGEST,
            (bytes(BATCH_MAX_BYTES // PUSH_BATCH_MAX),) * PUSH_BATCH_MAX, (),
        ),
    ],
    ids=lambda item: type(item).__name__,
)  # fmt: skip
def test_the_largest_items_fit_into_a_header(item: Item) -> None:
    """No item that keeps its own bounds is refused for the bound of the header."""
    parcel = Parcel(item)
    assert decode(encode([parcel])) == [parcel]


def test_a_closed_message_fits_into_a_header() -> None:
    """A sender looks at the size after each item, so a message may hold nearly a batch and then
    the largest item that a sender makes: a full batch of pushes and one more body."""
    names_and_numbers = 4_096
    largest = 2 * BATCH_MAX_BYTES + INLINE_MAX_BYTES + names_and_numbers
    assert largest < HEADER_MAX_BYTES


def test_limits_are_frozen_and_sane() -> None:
    """Every default is above zero, nobody can change one, and all are given by name."""
    defaults = Limits()
    for field in dataclasses.fields(defaults):
        assert getattr(defaults, field.name) > 0
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(defaults, field.name, 1)
    with pytest.raises(TypeError):
        Limits(1.0)  # type: ignore[call-arg]


def test_defaults_fit_into_each_other() -> None:
    """One body fits where bodies wait, and a full window of requests into what may be open."""
    defaults = Limits()
    assert defaults.body_max_bytes < defaults.outbox_bytes
    assert defaults.window <= defaults.open_requests
    assert defaults.restart_settle_s > defaults.heartbeat_s, "a quiet server is back after a beat"
    assert defaults.heartbeat_s * 1_000 <= 3_600_000


# -- bounds ---------------------------------------------------------------------------------


def request(**changes: object) -> Parcel:
    """A small request with some fields changed."""
    fields: dict[str, object] = {
        "source": "a", "epoch": 1, "number": 1, "topic": "t", "target": "", "ttl_ms": 1,
        "flags": 0, "floor": 1, "open": (), "trace": "", "body": b"", "frames": 0,
    }  # fmt: skip
    frames = (b"",) * int(str(changes.get("frames", 0)))
    return Parcel(Request(**{**fields, **changes}), frames)  # type: ignore[arg-type]


def push(count: int, counts: tuple[int, ...] = ()) -> Parcel:
    """A push of so many empty bodies."""
    return Parcel(Push(1, "a", 1, "t", 1, 1, (b"",) * count, counts), (b"",) * sum(counts))


def hello(**changes: object) -> Parcel:
    """A small hello with some fields changed."""
    fields: dict[str, object] = {
        "name": "a", "role": Role.ENGINE, "epoch": 1, "topics": (), "window": 1, "proof": b"",
    }  # fmt: skip
    return Parcel(Hello(**{**fields, **changes}))  # type: ignore[arg-type]


AT_THE_BOUND: dict[str, tuple[int, object]] = {
    "items": (BATCH_ITEMS_MAX, lambda n: [Parcel(Heartbeat())] * n),
    "frames of one item": (FRAMES_MAX, lambda n: [request(frames=n)]),
    "frames of all items": (FRAMES_MAX, lambda n: [request(frames=n - 4), push(2, (3, 1))]),
    "frames of a push": (FRAMES_MAX, lambda n: [push(3, (0, n, 0))]),
    "bodies of a push": (PUSH_BATCH_MAX, lambda n: [push(n)]),
    "stragglers": (STRAGGLERS_MAX, lambda n: [request(open=(1,) * n)]),
    "a name": (NAME_MAX, lambda n: [hello(name="n" * n)]),
    "a source": (NAME_MAX, lambda n: [request(source="n" * n)]),
    "a source beyond ASCII": (NAME_MAX, lambda n: [request(source="\xe9" * n)]),
    "a topic": (NAME_MAX, lambda n: [Parcel(Serve(("t" * n,), ()))]),
    "topics": (TOPICS_MAX, lambda n: [hello(topics=("t",) * n)]),
    "topics withdrawn": (TOPICS_MAX, lambda n: [Parcel(Serve((), ("t",) * n))]),
    "a text": (TEXT_MAX, lambda n: [Parcel(Bye(Cause.FULL, "\u20ac" * n))]),
    "pipes": (PIPES_MAX, lambda n: [Parcel(Welcome(1, 1, 1, 1, 1, 1, ("ipc://p",) * n, 0))]),
    "a heartbeat": (3_600_000, lambda n: [Parcel(Welcome(1, 1, n, 1, 1, 1, (), 0))]),
    "a trace": (64, lambda n: [request(trace="0" * n)]),
    "a proof": (256, lambda n: [hello(proof=bytes(n))]),
    "flags": (31, lambda n: [request(flags=n)]),
    "a time": (2**53, lambda n: [request(ttl_ms=n)]),
    "an epoch": (BIGGEST, lambda n: [request(epoch=n)]),
    "a number": (BIGGEST, lambda n: [Parcel(Cancel("a", 1, n))]),
    "a straggler": (BIGGEST, lambda n: [request(open=(n,))]),
    "a header": (
        HEADER_MAX_BYTES,
        lambda n: [Parcel(Reply("a", 1, 1, bytes(n - len(MAGIC) - 13), 0))],
    ),
}


@pytest.mark.parametrize("what", AT_THE_BOUND)
def test_bounds_are_exact(what: str) -> None:
    """What is as large as it may be is taken; one more is malformed (spec 3.4)."""
    largest, build = AT_THE_BOUND[what]
    parcels = build(largest)  # type: ignore[operator]
    assert decode(encode(parcels)) == parcels
    with pytest.raises(Malformed):
        decode(encode(build(largest + 1)))  # type: ignore[operator]


def test_the_bound_of_a_header_counts_its_bytes() -> None:
    """The example above is as long as it says, or its test would show nothing."""
    build = AT_THE_BOUND["a header"][1]
    assert len(encode(build(HEADER_MAX_BYTES))[0]) == HEADER_MAX_BYTES  # type: ignore[operator]


@pytest.mark.parametrize("counts", [(1,), (1, 1, 1), (0, 0, 0), (0,)])
@pytest.mark.parametrize("beside", [[], [Parcel(Reply("a", 1, 1, b"", 1), (b"",))]])
def test_a_push_counts_frames_for_each_body_or_for_none(
    counts: tuple[int, ...], beside: list[Parcel]
) -> None:
    """Other counts are malformed, whether or not frames came, and whatever is said beside."""
    with pytest.raises(Malformed, match="other bodies"):
        decode(encode([push(2, counts), *beside]))


@pytest.mark.parametrize("beside", [[], [Parcel(Reply("a", 1, 1, b"", 1), (b"",))]])
def test_a_push_may_count_no_frame_for_each_body(beside: list[Parcel]) -> None:
    """Zeros for all bodies say the same as no counts, alone and beside others (spec 2.3)."""
    assert decode(encode([push(2, (0, 0)), *beside]))[0].item == push(2, (0, 0)).item


# -- memory ---------------------------------------------------------------------------------


def peak_of_refusing(header: bytes) -> int:
    """Bytes that were allocated at once while this was refused."""
    tracemalloc.start()
    try:
        with pytest.raises(Malformed):
            decode([header])
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "before", [b"", b"\x91", b"\x91\x93\x0b", b"\x91\x9a\x09", b"\x91\x9d\x05"]
)
@pytest.mark.parametrize("claim", [b"\xdd", b"\xdf", b"\xdb", b"\xc6", b"\xc9"])
@pytest.mark.parametrize("length", [2**31 - 1, 2**32 - 1])
def test_a_claimed_length_is_not_believed(before: bytes, claim: bytes, length: int) -> None:
    """A few bytes that say they are billions cost a few bytes, wherever they stand (P13)."""
    assert peak_of_refusing(MAGIC + before + claim + length.to_bytes(4, "big")) < 65_536


def test_too_many_items_are_refused_before_they_are_made() -> None:
    """A full header of the smallest items costs nothing: half a million are not built first."""
    count = (HEADER_MAX_BYTES - len(MAGIC) - 5) // 2
    header = MAGIC + b"\xdd" + count.to_bytes(4, "big") + b"\x91\x03" * count
    assert peak_of_refusing(header) < 65_536


def test_the_worst_message_costs_a_small_multiple_of_its_bytes() -> None:
    """A header full of the shortest texts is what grows most in memory; it stays below 32 MiB
    (P13)."""
    serve = [11, [chr(97 + number % 26) * 2 for number in range(338)], []]
    header = MAGIC + msgpack.packb([serve] * 1_020)
    assert HEADER_MAX_BYTES - 10_000 < len(header) <= HEADER_MAX_BYTES
    tracemalloc.start()
    try:
        assert len(decode([header])) == 1_020
        assert tracemalloc.get_traced_memory()[1] < 32 * 2**20
    finally:
        tracemalloc.stop()
