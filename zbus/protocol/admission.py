"""Who is taken in, under which name, and who may stay (spec 5.2, 5.3; promises P14, P15).

Rules of this room:

* A name is held by one identity: the key that it proved, or the proof that it brought. Anybody
  else is refused; a newer life of the same takes it over, and an older one is told so.
* A peer is judged by the policy in force when it says Hello, and again by every new one.
"""

from __future__ import annotations

from collections.abc import Iterable
from hmac import compare_digest

from zbus.protocol.effect import Lane, Route
from zbus.protocol.limits import Limits
from zbus.protocol.message import Cause, Hello, Role, Welcome
from zbus.protocol.policy import Policy
from zbus.protocol.roster import Peer, Roster

__all__ = ["Admission", "not_pushed"]

_LANE_OF_ROLE = {Role.ENGINE: Lane.FRONTEND, Role.SERVER: Lane.BACKEND}


class Admission:
    """The judgements; who asks carries them out."""

    def __init__(self, roster: Roster, limits: Limits, policy: Policy) -> None:
        self.policy = policy
        self._roster = roster
        self._limits = limits

    def refusal(self, route: Route, hello: Hello) -> tuple[Cause, str] | None:
        """Why this Hello is refused, if it is."""
        if route.lane is not _LANE_OF_ROLE[hello.role]:
            return Cause.DENIED, f"this is not the socket for a {hello.role.name.lower()}"
        known = self._roster.named(hello.name)
        denied = self.policy.refusal(route, hello)
        if denied is not None:
            return denied
        if known is not None:
            return self._conflict(known, route, hello)
        full = len(self._roster) >= self._limits.peers
        return (Cause.FULL, f"{len(self._roster)} peers are attached") if full else None

    def _conflict(self, known: Peer, route: Route, hello: Hello) -> tuple[Cause, str] | None:
        proved = not known.proof or compare_digest(known.proof, hello.proof)
        if not proved or known.identity != self.policy.prove(route):
            return Cause.NAME_TAKEN, f'another peer is named "{hello.name}"'
        if known.epoch > hello.epoch:
            return Cause.SUPERSEDED, f'a newer start of "{hello.name}" is attached'
        if known.epoch == hello.epoch and known.role is not hello.role:
            return Cause.DENIED, "one life of a peer has one role"
        return None

    def grant(self, peer: Peer, route: Route) -> None:
        """This peer is taken in: what it may do, and as whom, is the policy's to say."""
        self._give(peer, self.policy.prove(route) or "")

    def welcome(self, peer: Peer, incarnation: int, pipe: tuple[str, ...]) -> Welcome:
        """What a peer is told that is taken in: the limits that it is to keep (spec 5.4)."""
        limits, grants = self._limits, peer.grants
        window = limits.push_window
        return Welcome(
            peer.session,
            incarnation,
            max(1, int(limits.heartbeat_s * 1000)),
            limits.body_max_bytes,
            limits.open_requests,
            window if grants is None else grants.push_window(window),
            pipe,
            limits.object_max_bytes,
        )

    def release(self, peer: Peer) -> None:
        """This peer is forgotten."""
        if peer.grants is not None:
            peer.grants.leave(peer.asked)
            peer.grants = None

    def unfit(self, peer: Peer, pushed: Iterable[str]) -> str:
        """In words, why a peer may not stay under a policy that has just come; empty if it may.
        ``pushed`` are the topics that it pushes to."""
        if peer.route is not None and self.policy.prove(peer.route) != peer.identity:
            return "the key of this peer is trusted no longer"
        self._give(peer, peer.identity)
        denied = self.not_served(peer, peer.topics)
        for topic in pushed if not denied else ():
            if peer.grants is not None and not peer.grants.may_push(topic):
                return not_pushed(topic)
        return denied

    def not_served(self, peer: Peer, topics: Iterable[str]) -> str:
        """In words, why this peer may not serve all of these; empty if it may."""
        return self.policy.not_served(peer.name, peer.identity, topics)

    def _give(self, peer: Peer, identity: str) -> None:
        self.release(peer)
        peer.identity = identity
        peer.grants = self.policy.grants_of(peer.name, identity)
        if peer.grants is not None:
            peer.grants.join(peer.asked)


def not_pushed(topic: str) -> str:
    """What a peer is told that pushed where it may not."""
    return f'the policy of this broker does not let this peer push to "{topic}"'
