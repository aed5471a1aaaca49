"""What is broken by rule is broken, in every way that is claimed, and blind luck does the rest."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from zbus.errors import Malformed
from zbus.protocol.codec import decode, encode
from zbus.protocol.limits import FRAMES_MAX
from zbus.protocol.message import Heartbeat, Parcel
from zbus.testing import strategies as zst
from zbus.testing.hostile import hostile, malformed

EXPECTED_REASONS = {
    "a message without frames",
    "the signature is not ZBP/1",
    "the items count frames, and none came",
    "truncated",
    "trailing",
    "Invalid value",
    "Expected `array` of at least length",
    "Expected `array` of at most length",
    "Expected `array` of length",
    "Expected `int`",
    "Expected `str`",
    "Expected `bytes`",
    "Expected `str` matching regex",
    "Invalid enum value",
    "utf-8",
    "body frames in one message",
    " frames, and ",
}
"""Parts of what the codec says; each is another way of being malformed."""


def reason(frames: Sequence[bytes | memoryview]) -> str:
    """Why these are no message; empty if they are one."""
    try:
        decode(frames)
    except Malformed as error:
        return error.what
    return ""


def reasons(strategy: st.SearchStrategy[list[bytes | memoryview]], count: int) -> Counter[str]:
    """How often each reason came up; the same ones each time."""
    seen: Counter[str] = Counter()

    @settings(max_examples=count, derandomize=True, database=None, deadline=None)
    @given(strategy)
    def look(frames: list[bytes | memoryview]) -> None:
        seen[reason(frames)] += 1

    look()
    return seen


def test_malformed_frames_are_malformed_in_every_way() -> None:
    """None gets through, and each reason that the codec knows for refusing comes up."""
    seen = reasons(zst.malformed_frames(), 1_200)
    assert "" not in seen
    missed = {part for part in EXPECTED_REASONS if not any(part in text for text in seen)}
    assert not missed


def test_hostile_frames_are_not_all_refused() -> None:
    """Some mutations hit what does not matter: a test that is fed with these sees both."""
    seen = reasons(zst.hostile_frames(), 600)
    assert seen[""] >= 20
    assert sum(seen.values()) - seen[""] >= 300


def broken(parcel: Parcel) -> st.SearchStrategy[list[bytes | memoryview]]:
    """Breaks of this one message."""
    return malformed(st.just(encode([parcel])), st.just(parcel.item))


@given(zst.parcels().filter(lambda parcel: parcel.item != Heartbeat()).flatmap(broken))
def test_every_break_of_one_message_is_seen(frames: list[bytes | memoryview]) -> None:
    """However small the message that is broken, nothing that is made of it is one."""
    assert reason(frames)


@given(hostile(zst.frames(), zst.items()))
def test_hostile_frames_are_bytes_and_bounded(frames: list[bytes | memoryview]) -> None:
    """They are what a socket may hand up: a list of frames, not too many for a test to hold."""
    assert all(isinstance(frame, bytes | memoryview) for frame in frames)
    assert len(frames) <= 300 + FRAMES_MAX + 1
