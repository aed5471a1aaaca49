"""Requests that end the process they are given to, and are given to no further one (P12).

Who asked is told that the handler's process is lost, asks again, and the next process ends as
well. The broker cannot see why a process died, but it sees what each had when it did. Rules:

* What counts is the *content*: topic, body and frames. Whoever asks again does so with a new id,
  and perhaps in another name. Of a body nothing is kept but a hash.
* When a process dies, all that it had is *suspect*, also what its source had given up. Suspect
  with ``kills`` processes is *quarantined*: refused as ``Poisoned``, until somebody releases it.
* A handler's answer clears a content of everything: that process lived through it.
* Suspects are tried apart: a process is given one at a time, and the next once the first is
  answered, or a loss of the process would have been noticed. Else a request would be blamed for
  another that was there both times. Those that wait stay with their sources.
* Who decides that a process is dead is the broker. If it turns out to live, that death is void.
* What is hashed of each request is its whole if that is short, else its edges; a suspect is
  recognized by all of it. Of a large body that is its manifest, which has a check of the edges.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import blake2b

from zbus.errors import Executed, Poisoned
from zbus.protocol.effect import BrokerEffect, Happened
from zbus.protocol.limits import Limits
from zbus.protocol.message import Fault, Key, Parcel, Reply, Request
from zbus.protocol.roster import Peer, Ticket

__all__ = ["SUSPECTS_MAX", "Content", "Quarantine", "Suspect"]

Content = tuple[str, int]
"""A topic, and the hash of what was asked on it."""
SUSPECTS_MAX = 1_024
_PARKED_MAX = 4_096
_EDGE = 512
_PROBATION = 3.0
"""Heartbeats after which the loss of a process would have been noticed (P10)."""
_YES = 2


@dataclass(slots=True, eq=False)
class Suspect:
    """A content that processes had when they died. ``deaths`` has the name and epoch of each, and
    who had asked it; ``digest`` and ``size`` are known once it has come again."""

    number: int
    topic: str
    deaths: dict[tuple[str, int], str] = field(default_factory=dict)
    quarantined: bool = False
    refused: int = 0
    digest: bytes = b""
    size: int = 0


@dataclass(frozen=True, slots=True)
class _Trial:
    """The suspect that a process was given last, and until when it is given no other."""

    ticket: Ticket
    until: float


class Quarantine:
    """Every suspect by its content, at most ``SUSPECTS_MAX`` of them."""

    def __init__(self, limits: Limits) -> None:
        self.suspects: dict[Content, Suspect] = {}
        self._kills = limits.poison_kills
        self._heartbeat_s = limits.heartbeat_s
        self._trials: dict[Peer, _Trial] = {}
        self._parked: dict[Key, Content] = {}
        self._now = 0.0
        self._newest = 0

    # -- a request comes -------------------------------------------------------------------

    def content(self, parcel: Parcel) -> int:
        """The hash of what is asked; 0 where nothing is ever quarantined."""
        if not self._kills:
            return 0
        item: Request = parcel.item  # type: ignore[assignment]
        body = item.body
        if parcel.frames:
            return hash(tuple([_edges(piece) for piece in (body, *parcel.frames)]))
        return hash(body) if len(body) <= 2 * _EDGE else hash(_edges(body))

    def refusal(self, parcel: Parcel, content: int, now: float) -> Poisoned | None:
        """Why this request, which has not been given to anybody, is refused, if it is."""
        item = parcel.item
        assert isinstance(item, Request)
        self._now = now
        self._parked.pop(Key(item.source, item.epoch, item.number), None)
        suspect = self.suspects.get((item.topic, content))
        if suspect is None:
            return None
        digest = _digest(parcel)
        if not suspect.digest:
            suspect.digest = digest
            suspect.size = len(item.body) + sum(map(len, parcel.frames))
        if not suspect.quarantined or suspect.digest != digest:
            return None
        suspect.refused += 1
        return _poisoned(suspect, Executed.NO)

    def apart(self, ticket: Ticket, peers: list[Peer]) -> list[Peer]:
        """Who of these may be given this request now."""
        if (ticket.topic, ticket.content) not in self.suspects:
            return peers
        return [peer for peer in peers if not self._is_trying(peer)]

    def park(self, ticket: Ticket) -> int:
        """Nobody may be given this suspect now; the milliseconds after which it may be asked
        again, unless ``answered`` names it before."""
        if len(self._parked) >= _PARKED_MAX:
            del self._parked[next(iter(self._parked))]
        self._parked[ticket.key] = (ticket.topic, ticket.content)
        return int(self._heartbeat_s * 1000.0)

    def given(self, ticket: Ticket, handler: Peer) -> None:
        """This process is given the request now."""
        if self.suspects and (ticket.topic, ticket.content) in self.suspects:
            self._trials[handler] = _Trial(ticket, self._now + _PROBATION * self._heartbeat_s)

    # -- what became of it -----------------------------------------------------------------

    def answered(self, peer: Peer, ticket: Ticket, answer: Reply | Fault) -> Sequence[Key]:
        """A handler answered; which parked requests are to be asked again now."""
        woken: list[Key] = []
        content = (ticket.topic, ticket.content)
        ran = isinstance(answer, Reply) or answer.executed == _YES
        if ran and self.suspects.pop(content, None) is not None:
            woken += [key for key, parked in self._parked.items() if parked == content]
        trial = self._trials.get(peer)
        if trial is not None and trial.ticket is ticket:
            del self._trials[peer]
            woken += self._next(peer, woken)
        for key in woken:
            del self._parked[key]
        return woken

    def lost(self, peer: Peer, died: bool, effects: list[BrokerEffect]) -> None:
        """This peer is lost; if it died, what it had is suspect, or quarantined."""
        self._trials.pop(peer, None)
        if died and self._kills:
            had = [ticket for ticket in peer.holds if not ticket.asking]
            for ticket in (*had, *peer.unanswered.values()):
                self._blame(ticket, peer, effects)

    def verdict(self, ticket: Ticket) -> Poisoned | None:
        """What the source of a request is told whose handler is lost, if it is quarantined."""
        suspect = self.suspects.get((ticket.topic, ticket.content))
        if suspect is None or not suspect.quarantined:
            return None
        return _poisoned(suspect, Executed.MAYBE)

    def acquit(self, name: str, epoch: int) -> None:
        """The process that was thought dead is back: only its connection was."""
        for content, suspect in list(self.suspects.items()):
            if suspect.deaths.pop((name, epoch), None) is not None:
                suspect.quarantined = len(suspect.deaths) >= self._kills
                if not suspect.deaths:
                    del self.suspects[content]

    def release(self, number: str) -> Suspect | None:
        """Give this suspect to handlers again, as if nothing had been; None if there is none."""
        for content, suspect in self.suspects.items():
            if str(suspect.number) == number:
                return self.suspects.pop(content)
        return None

    # -- small things ----------------------------------------------------------------------

    def _blame(self, ticket: Ticket, peer: Peer, effects: list[BrokerEffect]) -> None:
        content = (ticket.topic, ticket.content)
        suspect = self.suspects.get(content)
        if suspect is None:
            suspect = self._added(content)
        suspect.deaths[(peer.name, peer.epoch)] = ticket.key.source
        if len(suspect.deaths) >= self._kills and not suspect.quarantined:
            suspect.quarantined = True
            fields = (("topic", suspect.topic), ("number", suspect.number), ("peer", peer.name))
            effects.append(Happened("request_quarantined", fields))

    def _added(self, content: Content) -> Suspect:
        if len(self.suspects) >= SUSPECTS_MAX:
            harmless = (each for each in self.suspects if not self.suspects[each].quarantined)
            del self.suspects[next(harmless, next(iter(self.suspects)))]
        self._newest += 1
        suspect = self.suspects[content] = Suspect(self._newest, content[0])
        return suspect

    def _is_trying(self, peer: Peer) -> bool:
        trial = self._trials.get(peer)
        return trial is not None and trial.ticket in peer.holds and self._now < trial.until

    def _next(self, peer: Peer, woken: list[Key]) -> list[Key]:
        for key, (topic, _) in self._parked.items():
            if topic in peer.topics and key not in woken:
                return [key]
        return []


def _edges(piece: bytes | memoryview) -> tuple[int, bytes, bytes]:
    return len(piece), bytes(piece[:_EDGE]), bytes(piece[-_EDGE:])


def _digest(parcel: Parcel) -> bytes:
    item = parcel.item
    assert isinstance(item, Request)
    found = blake2b(item.body, digest_size=16)
    for frame in parcel.frames:
        found.update(len(frame).to_bytes(8, "big"))
        found.update(frame)
    return found.digest()


def _poisoned(suspect: Suspect, executed: Executed) -> Poisoned:
    text = (
        f'{len(suspect.deaths)} processes that had this request on "{suspect.topic}" died; '
        f"it is number {suspect.number} in quarantine"
    )
    return Poisoned(text, executed=executed)
