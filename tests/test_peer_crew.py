"""Who is in a pool of handlers."""

from __future__ import annotations

from zbus.peer.crew import Hand, new_worker


def test_a_worker_is_told_who_it_is() -> None:
    """Its work has it at hand, and it has no turn yet."""
    seen: list[Hand] = []
    hand = new_worker("zbus-handler-test", seen.append)
    assert hand.thread.daemon
    assert not hand.has_turn
    hand.thread.start()
    hand.thread.join(30.0)
    assert seen == [hand]
