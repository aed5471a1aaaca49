"""What may wait in the broker: zbus/protocol/budget.py."""

from __future__ import annotations

from collections import deque

import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from zbus.protocol.budget import ITEM_BYTES, Backlog, Budget, weigh
from zbus.protocol.message import Credit, Flag, Parcel, Push, Request

TARGET, MEMORY = 1_000, 9_000
PEERS = 4


class World:
    """A broker's budget beside what really waits: connections that keep order, and what is read
    of them. A receipt is a message without a size, with its mark below zero."""

    def __init__(self) -> None:
        self.budget = Budget(TARGET, MEMORY)
        self.backlogs = [Backlog() for _ in range(PEERS)]
        self.pipes: list[deque[tuple[int, int]]] = [deque() for _ in range(PEERS)]
        self.refused = 0

    def waits(self, peer: int) -> int:
        return sum(size for size, _ in self.pipes[peer])

    def ask(self, peer: int, size: int) -> None:
        backlog = self.backlogs[peer]
        if self.budget.admits(backlog, size):
            self.pipes[peer].append((size, self.budget.give(backlog, size)))
        else:
            self.refused += 1
            receipt = self.budget.receipt(backlog, 1)
            if receipt is not None:
                self.pipes[peer].append((0, -receipt.number))

    def read(self, peer: int, count: int, answers: bool = False) -> None:
        for _ in range(min(count, len(self.pipes[peer]))):
            _, mark = self.pipes[peer].popleft()
            if mark < 0:
                self.budget.received(self.backlogs[peer], -mark)
            elif answers:
                self.budget.prove(self.backlogs[peer], mark)

    def reconnect(self, peer: int) -> None:
        self.pipes[peer].clear()
        self.budget.clear(self.backlogs[peer])

    def check(self) -> None:
        assert self.budget.used == sum(backlog.waiting for backlog in self.backlogs)
        for peer, backlog in enumerate(self.backlogs):
            assert backlog.waiting >= self.waits(peer), "more waits than is counted"
            assert 0 <= backlog.read <= backlog.given
            bodies = sum(size > 0 for size, _ in self.pipes[peer])
            assert self.waits(peer) <= TARGET or bodies == 1
        assert self.budget.used <= MEMORY


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["ask", "ask", "read", "answer", "reconnect"]),
        st.integers(0, PEERS - 1),
        st.integers(1, 900) | st.integers(1, 5),
    ),
    max_size=80,
)


@given(STEPS)
def test_p08_what_really_waits_is_counted_and_bounded(steps: list[tuple[str, int, int]]) -> None:
    """Whatever is asked, read, answered or not, and lost: never more than the budget, and the
    count is never below the truth. Whoever reads has room again, whether it answers or not."""
    world = World()
    for act, peer, amount in steps:
        if act == "ask":
            world.ask(peer, amount)
        elif act == "reconnect":
            world.reconnect(peer)
        else:
            world.read(peer, amount, answers=act == "answer")
        world.check()
    event(f"refused: {world.refused > 0}")
    for peer in range(PEERS):
        for _ in range(3):
            world.ask(peer, TARGET)  # which asks for a receipt where something is in the way
            world.read(peer, 1_000)
        world.read(peer, 1_000, answers=True)
    assert sum(backlog.waiting for backlog in world.backlogs) <= PEERS * TARGET


@pytest.mark.parametrize("hogs", [1, 2, 20])
def test_p09_those_that_do_not_read_leave_eight_times_as_much(hogs: int) -> None:
    """Each of them; and a body that fits into what is left passes to whoever reads."""
    budget = Budget(10**9, 90_000)
    for backlog in [Backlog() for _ in range(hogs)]:
        free = 90_000 - budget.used
        while budget.admits(backlog, 10):
            budget.give(backlog, 10)
        assert abs(backlog.waiting - free / 9) <= 10
    left = 90_000 - budget.used
    assert left >= 90_000 * (8 / 9) ** hogs - 10 * hogs
    assert budget.admits(Backlog(), left)
    assert not budget.admits(Backlog(), left + 1)


def test_a_target_has_its_own_bound_but_for_a_single_body() -> None:
    """What the bus allows passes, if nothing else waits for its target."""
    budget, backlog = Budget(100, 10_000), Backlog()
    assert budget.admits(backlog, 10_000)
    budget.give(backlog, 60)
    assert budget.admits(backlog, 40)
    assert not budget.admits(backlog, 41)


def test_an_answer_proves_what_was_said_before_and_nothing_else() -> None:
    """Also out of order, and twice."""
    budget, backlog = Budget(), Backlog()
    first, second, third = (budget.give(backlog, 10) for _ in range(3))
    budget.prove(backlog, second)
    assert backlog.waiting == 10
    budget.prove(backlog, first)
    assert backlog.waiting == 10
    budget.prove(backlog, third)
    assert (backlog.waiting, budget.used, budget.used_most) == (0, 0, 30)


def test_a_handler_that_works_for_long_uses_nothing_up() -> None:
    """It is asked how far it has read, once at a time, and what it says is believed as far as
    it was asked."""
    budget, backlog = Budget(), Backlog()
    assert budget.receipt(backlog, 0) is None, "nothing can be unread"
    budget.give(backlog, 65_535)
    assert budget.receipt(backlog) is None, "which is not worth it"
    mark = budget.give(backlog, 1)
    receipt = budget.receipt(backlog)
    assert receipt is not None
    assert (receipt.source, receipt.number, receipt.flags) == ("", mark, int(Flag.ASK))
    budget.give(backlog, 70_000)
    assert budget.receipt(backlog, 1) is None, "it has been asked"
    budget.received(backlog, mark + 1)
    assert backlog.waiting == mark + 70_000, "which it was not asked about"
    budget.received(backlog, mark)
    assert backlog.waiting == 70_000
    assert budget.receipt(backlog) is not None
    budget.clear(backlog)
    budget.give(backlog, 1)
    assert budget.receipt(backlog, 1) is not None, "what it was asked is gone with its connection"


def test_an_outbox_counts_what_is_not_counted_yet() -> None:
    """Its requests and pushes were; answers were not."""
    budget, backlog = Budget(100, 1_000), Backlog()
    budget.give(backlog, 60)
    budget.report(backlog, 50)
    assert backlog.waiting == 60
    budget.report(backlog, 90)
    assert (backlog.waiting, budget.used) == (90, 90)
    budget.report(backlog, 2_000)
    assert (budget.excess, budget.is_roomy(Backlog())) == (1_000, False)
    budget.clear(backlog)
    assert (backlog.waiting, budget.used, budget.excess) == (0, 0, 0)
    assert budget.is_roomy(backlog)


def test_a_parcel_weighs_its_bodies_and_something_for_itself() -> None:
    """Frames included; so that empty ones weigh, too."""
    request = Request("e", 1, 1, "t", "", 1000, 0, 1, (), "", b"123", 1)
    assert weigh(Parcel(request, (b"4567",))) == ITEM_BYTES + 7
    push = Push(1, "e", 1, "t", 1, 1, (b"1", b"23"), (1, 0))
    assert weigh(Parcel(push, (b"456",))) == 2 * ITEM_BYTES + 6
    assert weigh(Parcel(Credit("e", 1, "t", 1, 1, False))) == ITEM_BYTES
