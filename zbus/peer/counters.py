"""What a peer counts, read all at one instant.

Rule: at every instant accepted = delivered + dropped + queued (promise P7). So a reader holds
what guards the link.
"""

from __future__ import annotations

from typing import NamedTuple

from zbus.peer.link import Link

__all__ = ["PeerCounters", "counters_of"]


class PeerCounters(NamedTuple):
    """What was counted until now."""

    accepted: int
    delivered: int
    dropped: int
    queued: int
    taken: int
    taken_queued: int
    push_repeats: int
    push_failures: int
    started: int
    repeats: int
    late_answers: int
    losses: int
    open_requests: int

    @property
    def unsettled(self) -> int:
        """The pushes of which nobody has said that they were taken, dropped ones too."""
        return self.accepted - self.delivered


def counters_of(link: Link) -> PeerCounters:
    """What this link and its session have counted."""
    session = link.session
    out, taken = session.out_lanes, session.in_lanes
    return PeerCounters(
        accepted=out.accepted,
        delivered=out.delivered,
        dropped=out.dropped,
        queued=out.queued,
        taken=taken.delivered,
        taken_queued=taken.queued,
        push_repeats=taken.repeats,
        push_failures=link.counters.pushes_failed,
        started=session.answerer.started,
        repeats=session.answerer.repeats,
        late_answers=session.asker.late_answers,
        losses=session.losses,
        open_requests=len(session.asker),
    )
