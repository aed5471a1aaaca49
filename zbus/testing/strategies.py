"""Hypothesis strategies for everything that goes over the wire.

Rules:

* What a strategy calls valid, any peer must accept; what ``malformed_frames`` makes, any peer
  must refuse; ``hostile_frames`` may by luck be valid, and must do no harm.
* Sizes are small: a search that looks at many small messages finds more than one that looks at
  few large ones. Where a bound is the point, a test names it.

Example::

    from hypothesis import given
    from zbus.testing import strategies as zst

    @given(body=zst.bodies())
    def test_echo_says_the_same(body):
        assert echo(body, request=None) == body
"""

from __future__ import annotations

import string
from typing import Any, TypeAlias

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from zbus.errors import every_error
from zbus.protocol.codec import encode
from zbus.protocol.limits import FRAMES_MAX, NAME_MAX, STRAGGLERS_MAX
from zbus.protocol.message import (
    AGAIN,
    UNKNOWN_ID,
    Accept,
    Bye,
    Cancel,
    Cause,
    Chunk,
    Credit,
    Done,
    Fault,
    Frames,
    Heartbeat,
    Hello,
    Item,
    Offer,
    Parcel,
    Push,
    Reply,
    Request,
    Role,
    Serve,
    Welcome,
    as_text,
)
from zbus.protocol.topics import is_reserved
from zbus.testing.faults import Faults
from zbus.testing.hostile import Message, hostile, malformed

__all__ = [
    "Body",
    "accepts",
    "bodies",
    "byes",
    "cancels",
    "chunks",
    "credit_items",
    "dones",
    "fault_items",
    "faults",
    "frames",
    "heartbeats",
    "hellos",
    "hostile_frames",
    "items",
    "malformed_frames",
    "messages",
    "names",
    "offers",
    "parcels",
    "pushes",
    "replies",
    "requests",
    "seeds",
    "serves",
    "topics",
    "welcomes",
]

Body: TypeAlias = object
"""What a handler gets and returns: plain values, nested."""

_WORD = st.text(string.ascii_letters + string.digits + "_-", min_size=1, max_size=40)
_COUNT = st.integers(0, 2**63 - 1)
_MILLIS = st.integers(0, 2**53)
_TEXT = st.text(max_size=40).map(as_text)
_INLINE = st.binary(max_size=64)
_FRAMES: SearchStrategy[Frames] = st.lists(st.binary(max_size=64), max_size=4).map(tuple)


_FAULTS: dict[str, SearchStrategy[float]] = {
    "delay_max_s": st.sampled_from([0.001, 0.02]),
    "slow_probability": st.just(0.02),
    "slow_max_s": st.sampled_from([0.01, 0.5, 3.0]),
    "connect_max_s": st.sampled_from([0.05, 1.0]),
    "break_probability": st.sampled_from([0.0005, 0.005, 0.03]),
    "vanish_probability": st.just(0.7),
    "notice_max_s": st.sampled_from([0.01, 0.5]),
    "half_open_probability": st.just(0.1),
    "half_open_s": st.sampled_from([1.0, 15.0]),
    "full_probability": st.sampled_from([0.001, 0.05]),
    "send_mark": st.sampled_from([1, 4]),
    "receive_mark": st.sampled_from([1, 10]),
}


# -- words --------------------------------------------------------------------------------


def names() -> SearchStrategy[str]:
    """Names of peers, up to the longest: ``names().example()`` may be ``"engine-1"``."""
    joined = st.lists(_WORD, min_size=1, max_size=5).map(".".join)
    return joined | st.just("n" * NAME_MAX)


def topics() -> SearchStrategy[str]:
    """Topics that a peer may serve, such as ``"job.submit"``; none below ``zbus.``."""
    return names().filter(lambda name: not is_reserved(name))


def seeds() -> SearchStrategy[int]:
    """Seeds of a simulation, such as ``17``: ``Bus(seed=seed)`` repeats byte for byte."""
    return st.integers(0, 2**64 - 1)


def faults() -> SearchStrategy[Faults]:
    """What goes wrong in a simulated network, such as ``Faults(break_probability=0.005)``; at its
    simplest nothing."""
    chosen: SearchStrategy[dict[str, Any]] = st.fixed_dictionaries({}, optional=_FAULTS)
    return chosen.map(lambda odd: Faults(**odd))


def bodies() -> SearchStrategy[Body]:
    """Bodies that the codec can say and gives back equal, such as ``{"id": 7, "raw": b"x"}``.

    Nested lists, tuples and dicts with text keys over None, booleans, integers of 64 bits,
    finite floats, text and bytes.
    """
    leaves = (
        st.none()
        | st.booleans()
        | st.integers(-(2**63), 2**64 - 1)
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(max_size=20)
        | st.binary(max_size=20)
    )
    return st.recursive(leaves, _containers, max_leaves=12)


def _containers(inner: SearchStrategy[Body]) -> SearchStrategy[Body]:
    lists = st.lists(inner, max_size=4)
    return lists | lists.map(tuple) | st.dictionaries(st.text(max_size=8), inner, max_size=4)


# -- items, a strategy a kind; none of them counts a frame ---------------------------------


def hellos() -> SearchStrategy[Hello]:
    """Hello items, such as ``Hello("server", Role.SERVER, 1, ("echo",), 16, b"")``."""
    served = st.lists(topics(), max_size=4).map(tuple)
    return st.builds(
        Hello, names(), st.sampled_from(Role), _COUNT, served, _COUNT, st.binary(max_size=256)
    )


def welcomes() -> SearchStrategy[Welcome]:
    """Welcomes, such as ``Welcome(1, 1, 1000, 1048576, 16384, 1024, ("ipc:///pipe",), 0)``."""
    beat = st.integers(1, 3_600_000)
    pipes = st.lists(_TEXT, max_size=3).map(tuple)
    return st.builds(Welcome, _COUNT, _COUNT, beat, _COUNT, _COUNT, _COUNT, pipes, _COUNT)


def heartbeats() -> SearchStrategy[Heartbeat]:
    """The one Heartbeat: ``Heartbeat()``."""
    return st.just(Heartbeat())


def byes() -> SearchStrategy[Bye]:
    """Bye items, such as ``Bye(Cause.SUPERSEDED, "a newer start took over")``."""
    return st.builds(Bye, st.sampled_from(Cause), _TEXT)


def requests() -> SearchStrategy[Request]:
    """Requests with any flags, with and without a target, such as one for ``"job.submit"``."""
    stragglers = st.lists(_COUNT, max_size=STRAGGLERS_MAX // 16).map(tuple)
    return st.builds(
        Request,
        names(),
        _COUNT,
        _COUNT,
        topics() | st.just("zbus.status"),
        st.just("") | names(),
        _MILLIS,
        st.integers(0, 31),
        _COUNT,
        stragglers,
        st.just("") | st.text("0123456789abcdef-", max_size=64),
        _INLINE,
        st.just(0),
    )


def replies() -> SearchStrategy[Reply]:
    """Replies, such as ``Reply("engine-1", 1, 7, b"pong", 0)``."""
    return st.builds(Reply, names(), _COUNT, _COUNT, _INLINE, st.just(0))


def fault_items() -> SearchStrategy[Fault]:
    """Faults, such as ``Fault("engine-1", 1, 7, 104, 0, 0, "nobody serves that")``; with any
    registered code, AGAIN, UNKNOWN_ID, or one that nobody knows yet."""
    known = st.sampled_from([AGAIN, UNKNOWN_ID, *(error.number for error in every_error())])
    code = known | st.integers(0, 65_535)
    return st.builds(Fault, names(), _COUNT, _COUNT, code, st.integers(0, 2), _MILLIS, _TEXT)


def cancels() -> SearchStrategy[Cancel]:
    """Cancels, such as ``Cancel("engine-1", 1, 7)``."""
    return st.builds(Cancel, names(), _COUNT, _COUNT)


def pushes() -> SearchStrategy[Push]:
    """Pushes of one to four bodies, such as two numbers for ``"metrics.cpu"``."""
    batch = st.lists(_INLINE, min_size=1, max_size=4).map(tuple)
    return st.builds(Push, _COUNT, names(), _COUNT, topics(), _COUNT, _COUNT, batch, st.just(()))


def credit_items() -> SearchStrategy[Credit]:
    """Credits, such as ``Credit("engine-1", 1, "metrics.cpu", 64, 1024, False)``."""
    return st.builds(Credit, names(), _COUNT, topics(), _COUNT, _COUNT, st.booleans())


def serves() -> SearchStrategy[Serve]:
    """Serve items, such as ``Serve(("train",), ())``."""
    served = st.lists(topics(), max_size=3).map(tuple)
    return st.builds(Serve, served, served)


def offers() -> SearchStrategy[Offer]:
    """Offers, such as ``Offer("engine-1", 1, 7, manifest)``; the manifest may be none."""
    return st.builds(Offer, names(), _COUNT, _COUNT, _INLINE)


def accepts() -> SearchStrategy[Accept]:
    """Accepts, such as ``Accept("engine-1", 1, 7, False, 3, 8, True)``."""
    return st.builds(Accept, names(), _COUNT, _COUNT, st.booleans(), _COUNT, _COUNT, st.booleans())


def chunks() -> SearchStrategy[Chunk]:
    """Chunks without a frame, such as ``Chunk("engine-1", 1, 7, False, 3, 0xCBF43926, 0)``."""
    check = st.integers(0, 2**32 - 1)
    return st.builds(Chunk, names(), _COUNT, _COUNT, st.booleans(), _COUNT, check, st.just(0))


def dones() -> SearchStrategy[Done]:
    """Dones, such as ``Done("engine-1", 1, 7)``."""
    return st.builds(Done, names(), _COUNT, _COUNT)


def items() -> SearchStrategy[Item]:
    """Items of every kind, such as ``Heartbeat()``; each counts no frames, so it stands alone."""
    return st.one_of(_KINDS)


_KINDS: list[SearchStrategy[Item]] = [
    heartbeats(),
    cancels(),
    byes(),
    replies(),
    requests(),
    fault_items(),
    pushes(),
    credit_items(),
    serves(),
    hellos(),
    welcomes(),
    offers(),
    accepts(),
    chunks(),
    dones(),
]


# -- parcels, messages, frames ------------------------------------------------------------


def parcels() -> SearchStrategy[Parcel]:
    """Items with the frames they count: ``Parcel(Reply("engine-1", 1, 7, b"", 1), (b"x",))``."""
    counting = [st.builds(_attach, kind, _FRAMES) for kind in (requests(), replies(), chunks())]
    return st.one_of(items().map(Parcel), *counting, _push_parcels())


def messages() -> SearchStrategy[list[Parcel]]:
    """What one ZeroMQ message may say: one to eight parcels, at most ``FRAMES_MAX`` frames."""
    batches = st.lists(parcels(), min_size=1, max_size=8)
    return batches.filter(lambda batch: sum(len(one.frames) for one in batch) <= FRAMES_MAX)


def frames() -> SearchStrategy[Message]:
    """The frames of a valid message: ``decode(frames().example())`` gives its parcels."""
    return messages().map(encode)


def malformed_frames() -> SearchStrategy[Message]:
    """Frames that are no message of ZBP/1, each for a reason that one can name.

    Example::

        @given(zst.malformed_frames())
        def test_my_decoder_refuses_them(frames):
            with pytest.raises(Malformed):
                my_decode(frames)
    """
    return malformed(frames(), items())


def hostile_frames() -> SearchStrategy[Message]:
    """Whatever a stranger may send: noise, mutations of valid messages, and malformed ones.

    Example::

        @given(st.lists(zst.hostile_frames()))
        def test_strangers_do_no_harm(messages):
            for frames in messages:
                my_daemon.receive(frames)
            assert my_daemon.answers()
    """
    return hostile(frames(), items())


def _attach(item: Request | Reply | Chunk, extra: Frames) -> Parcel:
    return Parcel(_rebuilt(item, "frames", len(extra)), extra)


@st.composite
def _push_parcels(draw: st.DrawFn) -> Parcel:
    item = draw(pushes())
    groups = [draw(st.lists(_INLINE, max_size=2)) for _ in item.bodies]
    counts = tuple(len(group) for group in groups)
    extra = tuple(frame for group in groups for frame in group)
    return Parcel(_rebuilt(item, "frames", counts), extra)


def _rebuilt(item: Item, field: str, value: object) -> Item:
    fields = {name: getattr(item, name) for name in item.__struct_fields__}
    return type(item)(**{**fields, field: value})
