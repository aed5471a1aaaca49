"""Who does not read, and is cut: zbus/protocol/outboxes.py."""

from __future__ import annotations

from zbus.protocol.budget import Budget
from zbus.protocol.effect import Lane, Route
from zbus.protocol.limits import Limits
from zbus.protocol.message import Hello, Role
from zbus.protocol.outboxes import Outboxes, Waiting
from zbus.protocol.roster import Peer, Roster

A, B, NOBODY = (Route(Lane.FRONTEND, name) for name in (b"a", b"b", b"n"))


class Yard:
    """Two peers and their outboxes."""

    def __init__(self, memory_bytes: int = 100_000) -> None:
        self.roster = Roster(Budget(1_000, memory_bytes))
        self.outboxes = Outboxes(self.roster, Limits(slow_s=2.0))
        self.a, self.b = self.peer("a", A), self.peer("b", B)

    def peer(self, name: str, route: Route) -> Peer:
        peer = self.roster.add(Hello(name, Role.ENGINE, 1, (), 4, b""), 4, 0.0)
        self.roster.attach(peer, route, hash(name))
        return peer

    def cut(self, now: float, **waiting: tuple[int, int]) -> list[Route]:
        routes = {"a": A, "b": B, "nobody": NOBODY}
        outboxes = {routes[name]: Waiting(*each) for name, each in waiting.items()}
        return [route for route, cut in self.outboxes.report(outboxes, now) if cut]


def test_p09_who_takes_nothing_is_cut_and_who_drains_is_not() -> None:
    """However slowly it drains, and from when it took something last."""
    yard = Yard()
    assert yard.cut(10.0, a=(50, 0), b=(50, 0)) == []
    assert yard.cut(11.9, a=(90, 0), b=(90, 1)) == []
    assert yard.cut(12.0, a=(90, 0), b=(90, 1)) == [A]
    assert yard.cut(13.8, b=(90, 1)) == []
    assert yard.cut(13.9, b=(90, 1)) == [B]


def test_an_outbox_that_was_empty_begins_anew() -> None:
    """Being slow once is not held against it; nor does it count any more."""
    yard = Yard()
    assert yard.cut(10.0, a=(50, 0)) == []
    assert (yard.a.backlog.waiting, len(yard.outboxes)) == (50, 1)
    assert yard.cut(11.0) == []
    assert (yard.a.backlog.waiting, len(yard.outboxes)) == (0, 0)
    assert yard.cut(11.5, a=(50, 0)) == []
    assert yard.cut(13.4, a=(50, 0)) == []
    assert yard.cut(13.5, a=(50, 0)) == [A]


def test_p08_answers_beyond_the_whole_budget_cut_whoever_has_most() -> None:
    """One at a time; the next report shows whether that was enough."""
    yard = Yard(memory_bytes=1_000)
    assert yard.cut(1.0, a=(400, 0), b=(600, 0)) == []
    assert yard.cut(1.1, a=(400, 0), b=(601, 0)) == [B]
    yard.roster.remove(yard.b)
    assert yard.cut(1.2, a=(400, 0)) == []
    assert yard.roster.budget.used == 400


def test_what_waits_for_nobody_is_dropped() -> None:
    """But for the word of why it was sent away."""
    yard = Yard()
    strangers = {NOBODY: Waiting(5_000, 0), A: Waiting(5_000, 0)}
    assert yard.outboxes.report(strangers, 1.0) == [(NOBODY, "")]
    assert yard.outboxes.report({NOBODY: Waiting(100, 0)}, 9.0) == []


def test_a_peer_on_a_new_connection_is_not_blamed_for_its_old_one() -> None:
    """What waits there is dropped; nothing of it counts."""
    yard = Yard()
    assert yard.cut(10.0, a=(50_000, 0)) == []
    yard.roster.attach(yard.a, NOBODY, 7)
    verdicts = yard.outboxes.report({A: Waiting(50_000, 0)}, 12.5)
    assert verdicts == [(A, "")]
    assert yard.a.backlog.waiting == 0
    assert yard.cut(13.0, nobody=(10, 0)) == []
