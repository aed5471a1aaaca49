"""Our open requests: the floor never settles an open one, and repeats say that they are."""

from __future__ import annotations

import pytest
from hypothesis import event, given
from hypothesis import strategies as st

import zbus.protocol.requests
from zbus.errors import Executed
from zbus.protocol.limits import STRAGGLERS_MAX
from zbus.protocol.message import Flag, Request
from zbus.protocol.requests import Ask, OpenRequests


@pytest.fixture
def small_lag(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stragglers after four younger requests instead of four thousand."""
    monkeypatch.setattr(zbus.protocol.requests, "_LAG_MAX", 4)


def said(requests: OpenRequests, ask: Ask, now: float = 0.0) -> Request:
    parcel = requests.parcel(ask, now)
    assert parcel is not None
    assert isinstance(parcel.item, Request)
    return parcel.item


def settled_by(item: Request, number: int) -> bool:
    """Whether this Request says that the number is settled (spec 6.4)."""
    return number < item.floor and number not in item.open


# -- the floor ---------------------------------------------------------------------------------


@pytest.mark.usefixtures("small_lag")
def test_the_floor_never_settles_an_open_request() -> None:
    """Whatever is asked, ended and repeated in whatever order, also beside one that stays open
    for ever: an open request is never settled, and the list keeps its form (P5)."""

    @given(st.data())
    def holds(data: st.DataObject) -> None:
        requests, asks = OpenRequests("e", 1), dict[int, Ask]()
        for _ in range(data.draw(st.integers(1, 80))):
            verb = data.draw(st.sampled_from(["ask", "ask", "end", "say"]))
            if verb == "ask" or not asks:
                ask = Ask("t", b"", 100.0)
                asks[requests.add(ask)] = ask
                item = said(requests, ask)
            elif verb == "end":
                number = data.draw(st.sampled_from(sorted(asks)))
                assert requests.end(number) is asks.pop(number)
                continue
            else:
                item = said(requests, data.draw(st.sampled_from(list(asks.values()))))
            assert not any(settled_by(item, number) for number in asks)
            assert list(item.open) == sorted(set(item.open))
            assert all(number < item.floor for number in item.open)
            assert len(item.open) <= STRAGGLERS_MAX
            event(f"stragglers: {min(len(item.open), 3)}")

    holds()


@given(st.permutations(range(1, 20)))
def test_what_has_ended_is_settled_by_the_next_request(order: list[int]) -> None:
    """Once nothing old is open, the floor has passed everything that ended."""
    requests = OpenRequests("e", 1)
    asks = [Ask("t", b"", 100.0) for _ in order]
    for ask in asks:
        said(requests, ask) if requests.add(ask) else None
    for number in order:
        requests.end(number)
    last = Ask("t", b"", 100.0)
    number = requests.add(last)
    item = said(requests, last)
    assert (number, item.floor, item.open) == (20, 20, ())


def test_one_that_stays_open_becomes_a_straggler(small_lag: None) -> None:
    """So the handler's side may forget in step with us, also beside a request of an hour."""
    requests = OpenRequests("e", 1)
    old = Ask("t", b"", 3_600.0)
    requests.add(old)
    items = []
    for _ in range(6):
        ask = Ask("t", b"", 10.0)
        number = requests.add(ask)
        items.append(said(requests, ask))
        requests.end(number)
    assert [(item.floor, item.open) for item in items] == [
        *[(1, ())] * 3,
        (5, (1,)),
        (6, (1,)),
        (7, (1,)),
    ]
    assert said(requests, old).open == (1,)
    requests.end(1)
    ask = Ask("t", b"", 10.0)
    requests.add(ask)
    assert (said(requests, ask).floor, said(requests, ask).open) == (8, ())


def test_there_are_only_so_many_stragglers(small_lag: None) -> None:
    """The wire allows 64; then the floor waits, and still settles nothing that is open."""
    requests = OpenRequests("e", 1)
    asks = [Ask("t", b"", 10.0) for _ in range(200)]
    for ask in asks:
        requests.add(ask)
        item = said(requests, ask)
        assert len(item.open) <= STRAGGLERS_MAX
        assert not any(settled_by(item, number) for number in range(1, ask.number + 1))
    assert item.floor == STRAGGLERS_MAX + 1


def test_ended_requests_cost_no_memory() -> None:
    """The order of numbers does not grow with what was asked in all."""
    requests = OpenRequests("e", 1)
    for _ in range(10_000):
        ask = Ask("t", b"", 10.0)
        requests.add(ask)
        said(requests, ask)
        requests.end(ask.number)
    assert len(requests._order) <= 1
    assert len(requests) == 0


# -- what is said --------------------------------------------------------------------------------


def test_numbers_grow_and_are_never_used_twice() -> None:
    """Also after they ended (spec 6.1)."""
    requests = OpenRequests("e", 1)
    numbers = []
    for _ in range(5):
        numbers.append(requests.add(Ask("t", b"", 10.0)))
        requests.end(numbers[-1])
    assert numbers == [1, 2, 3, 4, 5]


def test_a_request_is_said_as_it_was_given() -> None:
    """Every field, and the frames beside it."""
    requests = OpenRequests("engine-1", 7)
    ask = Ask("t", b"b", 2.5, (b"f", b"g"), "server", int(Flag.WAIT | Flag.PROBE), "00-trace")
    requests.add(ask)
    parcel = requests.parcel(ask, 0.5)
    assert parcel is not None
    flags = int(Flag.WAIT | Flag.PROBE)
    assert parcel.item == Request(
        "engine-1", 7, 1, "t", "server", 2_000, flags, 1, (), "00-trace", b"b", 2
    )
    assert parcel.frames == (b"f", b"g")


def test_a_repeat_says_so_with_the_time_that_is_left() -> None:
    """The second time it is said it is a repeat, and the caller cannot say so (spec 6.5)."""
    requests = OpenRequests("e", 1)
    ask = Ask("t", b"", 2.0, flags=int(Flag.REPEAT | Flag.ASK | Flag.WAIT))
    requests.add(ask)
    assert said(requests, ask, 0.5).flags == Flag.WAIT
    again = said(requests, ask, 1.25)
    assert again.flags == Flag.WAIT | Flag.REPEAT
    assert again.ttl_ms == 750
    assert again.number == 1


@given(st.floats(0.0, 10.0), st.floats(0.0, 10.0))
def test_never_more_time_than_there_is(now: float, deadline: float) -> None:
    """What is left is rounded down, and less than a millisecond is not worth saying (P2)."""
    requests = OpenRequests("e", 1)
    ask = Ask("t", b"", deadline)
    requests.add(ask)
    parcel = requests.parcel(ask, now)
    left_ms = (deadline - now) * 1_000.0
    assert (parcel is None) == (left_ms < 1.0)
    assert ask.sent == (parcel is not None)
    if parcel is not None:
        assert isinstance(parcel.item, Request)
        assert left_ms - 1.0 < parcel.item.ttl_ms <= left_ms


def test_an_endless_deadline_fits_on_the_wire() -> None:
    """A timeout of a billion years is cut to what the wire can say."""
    requests = OpenRequests("e", 1)
    ask = Ask("t", b"", 3.2e16)
    requests.add(ask)
    assert said(requests, ask).ttl_ms == 2**53


# -- did it run? -----------------------------------------------------------------------------------


def test_doubt_begins_with_a_repeat_whose_elder_may_have_run() -> None:
    """Not sent: no. Sent: maybe. Put off: no. Said again while it may have run: maybe for ever."""
    requests = OpenRequests("e", 1)
    ask = Ask("t", b"", 10.0)
    requests.add(ask)
    seen = [ask.executed]
    for pending in (True, False, True, True, False):
        if pending:
            said(requests, ask)
        else:
            ask.pending = False
        seen.append(ask.executed)
    no, maybe = Executed.NO, Executed.MAYBE
    assert seen == [no, maybe, no, maybe, maybe, maybe]


# -- time --------------------------------------------------------------------------------------


def test_deadlines_and_retries_come_when_they_are_due() -> None:
    """Each once; an ended request is due no more; a retry matters only while attached."""
    requests = OpenRequests("e", 1)
    first, second = Ask("t", b"", 5.0), Ask("t", b"", 6.0)
    requests.add(first)
    requests.add(second)
    requests.retry_at(2, 1.0)
    assert requests.next_at(attached=True) == 1.0
    assert requests.next_at(attached=False) == 5.0
    assert requests.to_retry(0.9) == []
    assert requests.to_retry(1.0) == [second]
    assert requests.to_retry(1.0) == []
    requests.retry_at(1, 2.0)
    requests.drop_retries()
    assert requests.to_retry(9.0) == []
    assert requests.overdue(5.0) == [1]
    requests.end(1)
    requests.retry_at(2, 1.0)
    requests.end(2)
    assert requests.to_retry(9.0) == []
    assert requests.overdue(9.0) == []
    assert requests.next_at(attached=True) is None


def test_a_request_ends_once() -> None:
    """The second end finds nothing (P1)."""
    requests = OpenRequests("e", 1)
    ask = Ask("t", b"", 5.0)
    number = requests.add(ask)
    assert list(requests) == [ask]
    assert requests.get(number) is ask
    assert requests.end(number) is ask
    assert requests.end(number) is None
    assert requests.get(number) is None
    assert list(requests) == []
