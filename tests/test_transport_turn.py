"""The turn: drain, tick, carry out, flush; over ports that are full, gone or thrown away."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from fake_ports import FakePort
from hypothesis import event, given
from hypothesis import strategies as st

from zbus.errors import Malformed
from zbus.protocol.codec import decode, encode
from zbus.protocol.effect import Happened, Lane, Reconnect, Route, Send
from zbus.protocol.limits import BATCH_ITEMS_MAX, BATCH_MAX_BYTES, FRAMES_MAX, HEADER_MAX_BYTES
from zbus.protocol.message import (
    Fault,
    Heartbeat,
    Item,
    Key,
    Parcel,
    Push,
    Reply,
    Request,
)
from zbus.transport.port import Frame, Sent
from zbus.transport.turn import Turn

A, B = Route(Lane.FRONTEND, b"a"), Route(Lane.FRONTEND, b"b")
Effect = Send | Happened | Reconnect


class Shell:
    """Owner and machine at once; it notes what happens in which order."""

    def __init__(self, port: FakePort | None = None, outbox_bytes: int = 1_000_000) -> None:
        self.port = port or FakePort()
        self.log: list[object] = []
        self.due: float | None = None
        self.answer: Callable[[Parcel], list[Effect]] = lambda parcel: []
        self.at_tick: list[Effect] = []
        self.anew: list[Effect] = [Happened("detached")]
        self.turn: Turn[Effect] = Turn(self, self, outbox_bytes)
        self.turn.ports[Lane.FRONTEND] = self.port

    def receive(self, route: Route, parcels: Iterable[Parcel], now: float) -> list[Effect]:
        self.log += [(route, parcel.item) for parcel in parcels]
        return [effect for parcel in parcels for effect in self.answer(parcel)]

    def tick(self, now: float) -> list[Effect]:
        self.log.append("tick")
        effects, self.at_tick = self.at_tick, []
        return effects

    def wake_at(self) -> float | None:
        return self.due

    def carry(self, effect: Effect, now: float) -> None:
        self.log.append(effect)
        if isinstance(effect, Reconnect):
            self.turn.forget(Lane.FRONTEND)
            self.port = self.turn.ports[Lane.FRONTEND] = FakePort()

    def malformed(self, route: Route, error: Malformed, now: float) -> None:
        self.log.append(("malformed", route))

    def unreachable(self, route: Route, now: float) -> None:
        self.log.append(("unreachable", route))
        self.turn.perform(self.anew, now)

    def overflowed(self, route: Route, now: float) -> None:
        self.log.append(("overflowed", route))

    def say(self, *effects: Effect, now: float = 0.0) -> None:
        self.turn.perform(effects, now)
        self.turn.flush(now)


def to(route: Route, item: Item | None = None, *frames: bytes) -> Send:
    return Send(route, Parcel(item or Heartbeat(), frames))


def number(value: int, size: int = 0) -> Reply:
    return Reply("e", 1, value, bytes(size), 0)


def request(value: int = 1, ttl_ms: int = 1_000) -> Request:
    return Request("e", 1, value, "t", "", ttl_ms, 0, 1, (), "", b"", 0)


def message(*items: Item) -> list[Frame]:
    return encode([Parcel(item) for item in items])


# -- the order of a turn -------------------------------------------------------------------------


def test_everything_is_drained_before_time_is_judged() -> None:
    """All that has arrived is heard before the tick (spec 8.4)."""
    port = FakePort((b"a", message(number(1), number(2))), (b"b", message(number(3))))
    shell = Shell(port)
    assert not shell.turn.once(0.0)
    assert shell.log == [(A, number(1)), (A, number(2)), (B, number(3)), "tick"]


def test_a_port_is_drained_up_to_a_bound() -> None:
    """So that none starves another; the turn says that there is more."""
    shell = Shell(FakePort(*[(b"a", message(number(value))) for value in range(300)]))
    assert shell.turn.once(0.0)
    assert len(shell.log) == 256 + 1
    assert not shell.turn.once(0.0)
    assert len(shell.log) == 300 + 2


def test_what_becomes_ready_together_leaves_together() -> None:
    """Grouped by route, in order, from messages, tick and owner; one message each (spec 2.3)."""
    shell = Shell(FakePort((b"a", message(number(1), number(2)))))
    shell.answer = lambda parcel: [Send(A, parcel), Send(B, parcel)]
    shell.at_tick = [to(A), Happened("something")]
    shell.turn.once(0.0)
    assert shell.port.said(b"a") == [[number(1), number(2), Heartbeat()]]
    assert shell.port.said(b"b") == [[number(1), number(2)]]
    assert shell.log[-1] == Happened("something")
    assert shell.turn.is_empty()


def test_garbage_is_told_to_the_owner_and_nobody_else_notices() -> None:
    """The machine never sees it (P13)."""
    shell = Shell(FakePort((b"a", [b"garbage"]), (b"b", message(number(1))), (b"a", [])))
    shell.turn.once(0.0)
    assert shell.log == [("malformed", A), (B, number(1)), ("malformed", A), "tick"]


def test_a_port_that_is_thrown_away_takes_what_was_drained_with_it() -> None:
    """After a Bye nothing that came on the old connection counts (spec 5.6)."""
    old = FakePort((b"a", message(number(1))), (b"a", message(number(2))))
    shell = Shell(old)
    shell.answer = lambda parcel: [to(A, number(7)), Reconnect(), to(A, number(8))]
    shell.turn.once(0.0)
    assert (A, number(2)) not in shell.log
    assert old.sent == []
    assert shell.port.said() == [[number(8)]]


# -- messages ------------------------------------------------------------------------------------


@given(
    st.lists(st.tuples(st.integers(0, 3), st.sampled_from([0, 10, 70_000, 200_000])), max_size=60)
)
def test_batches_keep_order_and_all_maxima(shapes: list[tuple[int, int]]) -> None:
    """However much is ready: everything once, in order, each message within its maxima, and no
    two messages where one would do."""
    shell = Shell()
    parcels = [
        Parcel(Reply("e", 1, value, b"", frames), (bytes(size),) * frames)
        for value, (frames, size) in enumerate(shapes)
    ]
    shell.say(*(Send(A, parcel) for parcel in parcels))
    messages = [decode(frames) for _, frames in shell.port.sent]
    assert [parcel for group in messages for parcel in group] == parcels
    sizes = [sum(len(frame) for parcel in group for frame in parcel.frames) for group in messages]
    counts = [sum(len(parcel.frames) for parcel in group) for group in messages]
    for group, size, count in zip(messages, sizes, counts, strict=True):
        assert len(group) <= BATCH_ITEMS_MAX
        assert count <= FRAMES_MAX
        assert size <= BATCH_MAX_BYTES or len(group) == 1
    for first, group in enumerate(messages[1:]):
        joined = sizes[first] + sum(len(frame) for frame in group[0].frames)
        assert joined > BATCH_MAX_BYTES or counts[first] + len(group[0].frames) > FRAMES_MAX
    event(f"{min(len(messages), 4)} messages")


def test_many_small_items_are_split_by_count() -> None:
    """No message holds more than a decoder takes (spec 3.4)."""
    shell = Shell()
    shell.say(*(to(A, number(value)) for value in range(2_500)))
    assert [len(items) for items in shell.port.said()] == [1_024, 1_024, 452]


def test_a_header_is_never_too_long() -> None:
    """A thousand faults with the longest texts, and requests with the longest names: more than
    a header may be, whatever their bodies weigh."""
    shell = Shell()
    faults: list[Item] = [
        Fault("e" * 255, 1, value, 401, 2, 0, "\u20ac" * 1_024) for value in range(1_000)
    ]
    asks: list[Item] = [
        Request("e" * 255, 1, value, "t" * 255, "s" * 255, 1, 0, 1, (), "x" * 64, b"", 0)
        for value in range(1_200)
    ]
    shell.say(*(to(A, item) for item in [*faults, *asks]))
    assert [item for items in shell.port.said() for item in items] == [*faults, *asks]
    assert all(len(frames[0]) <= HEADER_MAX_BYTES for _, frames in shell.port.sent)
    assert len(shell.port.sent) < 12


def test_pushes_weigh_what_their_bodies_weigh() -> None:
    """Bulk leaves in several messages, so that others get between them (spec 2.3)."""
    shell = Shell()
    push = Push(1, "e", 1, "t", 1, 1, (bytes(100_000), bytes(100_000)), ())
    shell.say(*[to(A, push)] * 3)
    assert [len(items) for items in shell.port.said()] == [1, 1, 1]


# -- ports that do not take it -------------------------------------------------------------------


def test_a_full_port_keeps_order_and_is_tried_again() -> None:
    """What is said later waits behind it; nothing is lost and nothing overtakes."""
    shell = Shell()
    shell.port.answers[b"a"] = Sent.FULL
    for value in range(3):
        shell.say(to(A, number(value)), to(B, number(value)))
    assert not shell.turn.is_empty()
    assert shell.port.said(b"b") == [[number(0)], [number(1)], [number(2)]]
    shell.port.answers.clear()
    shell.say(to(A, number(3)))
    assert shell.port.said(b"a") == [[number(value)] for value in range(4)]
    assert shell.turn.is_empty()


def test_a_port_that_has_a_little_room_gets_a_little() -> None:
    """One more each time, in order."""
    shell = Shell()
    shell.port.room = 0
    shell.say(*(to(A, number(value)) for value in range(2_000)))
    shell.say(to(A, number(9_999)))
    for _ in range(4):
        shell.port.room = 1
        shell.turn.flush(0.0)
    assert [items[0] for items in shell.port.said()] == [number(0), number(1_024), number(9_999)]
    assert shell.turn.is_empty()


def test_waiting_for_room_is_no_busy_loop() -> None:
    """Tried again after a millisecond, then twice that, up to 50 ms; sooner once it moves."""
    shell = Shell()
    shell.due = 100.0
    assert shell.turn.wake_at(0.0) == 100.0
    shell.port.answers[b"a"] = Sent.FULL
    shell.say(to(A))
    waits, now = [], 0.0
    for _ in range(10):
        wake_at = shell.turn.wake_at(now)
        assert wake_at is not None
        waits.append(round((wake_at - now) * 1_000))
        now = wake_at
        shell.turn.flush(now)
    assert waits == [1, 2, 4, 8, 16, 32, 50, 50, 50, 50]
    shell.port.answers.clear()
    shell.turn.flush(now)
    assert shell.turn.wake_at(now) == 100.0
    shell.due = None
    assert shell.turn.wake_at(now) is None


def test_a_route_that_is_gone_is_told() -> None:
    """At once, or when what waited is tried again; what waited for it is dropped."""
    shell = Shell()
    shell.port.answers[b"a"] = Sent.GONE
    shell.say(to(A), to(B))
    assert shell.log == [("unreachable", A), Happened("detached")]
    shell.port.answers[b"b"] = Sent.FULL
    shell.say(to(B, number(1)))
    shell.port.answers[b"b"] = Sent.GONE
    shell.turn.flush(0.0)
    assert shell.log.count(("unreachable", B)) == 1
    assert shell.turn.is_empty()


def test_a_lane_without_a_port_is_gone() -> None:
    """Nothing can be sent where no port is."""
    shell = Shell()
    route = Route(Lane.PUSH)
    shell.say(to(route))
    assert shell.log == [("unreachable", route), Happened("detached")]


def test_more_than_may_wait_is_dropped_and_told() -> None:
    """By bytes, for one route; the others wait on (P8)."""
    shell = Shell(outbox_bytes=2_000)
    shell.port.room = 0
    shell.say(to(A, number(1, 900)), to(B, number(1, 900)))
    assert shell.log == []
    shell.say(to(A, number(2, 1_200)))
    assert shell.log == [("overflowed", A)]
    shell.port.room = None
    shell.turn.flush(0.0)
    assert shell.port.said(b"a") == []
    assert shell.port.said(b"b") == [[number(1, 900)]]


def test_p08_what_waits_is_told_by_route_and_can_be_dropped() -> None:
    """With how much has left since; no body is kept twice."""
    shell = Shell()
    assert shell.turn.waiting() == {}
    shell.port.room = 0
    body = b"x" * 500
    shell.say(to(A, Request("e", 1, 1, "t", "", 900, 0, 1, (), "", body, 0)))
    shell.say(to(A, number(2, 300)), to(B, number(1, 300)))
    waiting = shell.turn.waiting()
    assert [taken for _, taken in waiting.values()] == [0, 0]
    assert waiting[A][0] > 800 > waiting[B][0] > 300
    kept = [said for stuck in shell.turn._stuck.values() for said, _ in stuck.messages]
    assert all(bool(said.frames) is not bool(said.requests) for said in kept)
    shell.port.room = 1
    shell.turn.flush(0.0)
    left = shell.turn.waiting()[A]
    assert (left[0] < 400, left[1]) == (True, 1)
    shell.turn.drop(A)
    shell.turn.drop(A)
    assert shell.turn.waiting().keys() == {B}
    shell.port.room = None
    shell.turn.flush(0.0)
    ((request,),) = shell.port.said(b"a")
    assert isinstance(request, Request)
    assert request.body == body
    assert shell.port.said(b"b") == [[number(1, 300)]]


def test_forgetting_a_lane_drops_what_waits_for_it() -> None:
    """Its ports are thrown away; the other lanes keep theirs."""
    shell = Shell()
    shell.port.answers[b"a"] = Sent.FULL
    other = Route(Lane.BACKEND, b"a")
    back = shell.turn.ports[Lane.BACKEND] = FakePort()
    back.room = 0
    shell.say(to(A), to(other))
    shell.turn.perform([to(B)], 0.0)
    shell.turn.forget(Lane.FRONTEND)
    shell.port.answers.clear()
    back.room = None
    shell.turn.flush(0.0)
    assert shell.port.sent == []
    assert back.said() == [[Heartbeat()]]


def test_a_port_that_is_gone_takes_what_was_to_be_sent_with_it() -> None:
    """An owner that opens new ports then: nothing meant for the old ones is said on them, be it
    of the same flush or of an earlier one, and what it says first comes first (spec 5.1)."""
    shell = Shell()
    shell.port.answers = {b"a": Sent.GONE, b"b": Sent.FULL}
    shell.say(to(B, number(1)))
    shell.anew = [Reconnect(), to(A, number(7))]
    shell.say(*(to(A, number(value)) for value in range(2_000)), to(B, number(2)))
    assert shell.log.count(("unreachable", A)) == 1
    assert [item for items in shell.port.said(b"a") for item in items] == [number(7)]
    assert shell.port.said(b"b") == []
    shell.port.answers = {b"a": Sent.FULL, b"b": Sent.FULL}
    shell.say(to(A, number(3)), to(B, number(4)))
    shell.port.answers = {b"a": Sent.GONE}
    shell.turn.flush(0.0)
    assert shell.port.said(b"b") == []
    assert shell.turn.is_empty()


# -- time held here ------------------------------------------------------------------------------


def test_p02_what_waits_here_grows_older() -> None:
    """The time for which a request was kept is taken off; one that is too late is not sent, and
    everything beside it is (spec 6.2)."""
    shell = Shell()
    shell.port.answers[b"a"] = Sent.FULL
    shell.say(to(A, request(1, 1_000)), to(A, number(1)), to(A, request(2, 200)))
    shell.say(to(A, request(3, 100)))
    shell.say(to(A, number(4)))
    shell.port.answers.clear()
    shell.turn.flush(0.3)
    assert shell.port.said() == [[request(1, 700), number(1)], [number(4)]]
    assert shell.turn.is_empty()
    assert Key("e", 1, 1).number == 1


@given(
    st.lists(st.sampled_from(["say", "room", "full", "flush"]), max_size=40),
    st.lists(st.sampled_from([Sent.FULL, Sent.SENT]), max_size=20),
)
def test_nothing_is_lost_or_overtaken(steps: list[str], script: list[Sent]) -> None:
    """Whenever the port is full, and be it from one send to the next: what was said arrives once
    and in order, once it is not."""
    shell, said = Shell(), 0
    shell.port.script.extend(script)
    for step in steps:
        if step == "say":
            shell.say(to(A, number(said)))
            said += 1
        elif step == "room":
            shell.port.room = (shell.port.room or 0) + 1
        elif step == "full":
            shell.port.room = 0
        else:
            shell.turn.flush(0.0)
    shell.port.room = None
    shell.port.script.clear()
    shell.turn.flush(0.0)
    assert [item for items in shell.port.said() for item in items] == [
        number(value) for value in range(said)
    ]
    assert shell.turn.is_empty()
