"""How a peer is attached to its broker: Hello and Welcome, losses, and whether both sides live.

Rules (spec sections 5 and 8):

* Hello is said first, on new sockets, until a Welcome comes; the wait for one doubles.
* A broker that is silent, or says a Bye that does not end us, is lost: we attach anew.
* My own stalls are no silence of the broker (``Vigil``).

    state     on                          goes to    and says
    NEW       open                        OPENING    Reconnect, Hello
    OPENING   Welcome                     OPEN       Attached
    OPENING   no Welcome in time          OPENING    Reconnect, Hello
    OPEN      silence, Bye                OPENING    Detached, Reconnect, Hello
    any       Bye that refuses, close     ENDED
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

from zbus.errors import (
    Malformed,
    NameTaken,
    NotAuthorized,
    Overloaded,
    Superseded,
    VersionMismatch,
    ZbusError,
)
from zbus.protocol.asker import TO_BROKER
from zbus.protocol.effect import Attached, Detached, Reconnect, Send, SessionEffect
from zbus.protocol.liveness import BEATS_WHEN_BUSY, PATIENCE, Pulse, Vigil
from zbus.protocol.message import Bye, Cause, Heartbeat, Hello, Parcel, Role, Serve, Welcome

__all__ = ["Attachment", "Grant", "Identity", "State"]

_HELLO_PATIENCE_S = 1.0
_HELLO_PATIENCE_MAX_S = 8.0
_NEARLY = 0.9
"""A turn for another reason says a beat that is nearly due, and saves one."""
_REFUSALS: dict[Cause, type[ZbusError]] = {
    Cause.NAME_TAKEN: NameTaken,
    Cause.SUPERSEDED: Superseded,
    Cause.VERSION: VersionMismatch,
    Cause.DENIED: NotAuthorized,
    Cause.MALFORMED: Malformed,
}


class State(enum.Enum):
    """Where the dialogue stands."""

    NEW = "new"
    OPENING = "opening"
    OPEN = "open"
    ENDED = "ended"


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Who this peer is. ``epoch`` grows at every start of the same identity; ``proof`` is what
    a later life must show to take the name over, empty for none."""

    name: str
    role: Role = Role.ENGINE
    epoch: int = 1
    proof: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True)
class Grant:
    """What the last Welcome allowed; the defaults hold until the first one."""

    session: int = field(default=0, repr=False)
    broker: int | None = None
    interval_s: float = 1.0
    open_max: int = 16_384


class Attachment:
    """One peer's standing with its broker, over all of its connections."""

    def __init__(
        self, identity: Identity, topics: dict[str, None], window: int, now: float
    ) -> None:
        self.identity = identity
        self.topics = topics
        self.state = State.NEW
        self.grant = Grant()
        self.losses = 0
        self.refusal: ZbusError | None = None
        self.settled_at = float("-inf")
        self.vigil = Vigil(now, self.grant.interval_s / BEATS_WHEN_BUSY)
        self._window = window
        self._told: dict[str, None] = {}
        self._pulse = Pulse(now)
        self._hello_patience_s = _HELLO_PATIENCE_S
        self._hello_until = now

    # -- states ----------------------------------------------------------------------------

    def open(self, now: float, effects: list[SessionEffect]) -> None:
        """Begin; time before this does not count."""
        self.vigil = Vigil(now, self.vigil.period)
        self._pulse = Pulse(now)
        self._say_hello(now, effects)

    def lose(self, why: str, now: float, effects: list[SessionEffect]) -> None:
        """The broker is lost: attach anew."""
        self.losses += 1
        self._hello_patience_s = _HELLO_PATIENCE_S
        effects.append(Detached(why))
        self._say_hello(now, effects)

    def knock(self, now: float, effects: list[SessionEffect]) -> None:
        """Say Hello once more, if the last one was not answered in time (spec 5.1)."""
        if now >= self._hello_until:
            self._hello_patience_s = min(self._hello_patience_s * 2, _HELLO_PATIENCE_MAX_S)
            self._say_hello(now, effects)

    def welcomed(self, item: Welcome, now: float, effects: list[SessionEffect]) -> bool:
        """A Welcome came; whether it was awaited."""
        if self.state is not State.OPENING:
            return False
        interval_s = item.heartbeat_ms / 1000.0
        if self.grant.broker not in (None, item.broker):
            # Another broker took over: the others are still coming back to it, the last of them
            # after as long as the old one was thought alive.
            self.settled_at = now + PATIENCE * interval_s
        self.state = State.OPEN
        self.refusal = None
        self._hello_patience_s = _HELLO_PATIENCE_S
        self.grant = Grant(item.session, item.broker, interval_s, item.open_max)
        self.vigil.period = interval_s / BEATS_WHEN_BUSY
        effects.append(Attached(item))
        self._say_what_changed(effects)
        return True

    def _say_what_changed(self, effects: list[SessionEffect]) -> None:
        """What we serve may have changed since the Hello that this Welcome answers (spec 5.5)."""
        added = tuple(topic for topic in self.topics if topic not in self._told)
        withdrawn = tuple(topic for topic in self._told if topic not in self.topics)
        if added or withdrawn:
            effects.append(Send(TO_BROKER, Parcel(Serve(added, withdrawn))))

    def dismissed(self, item: Bye, now: float, effects: list[SessionEffect]) -> ZbusError | None:
        """A Bye came: the error that the session ends with; None if it goes on (spec 4.4)."""
        refusal = _REFUSALS.get(item.cause)
        if refusal is not None:
            return refusal(item.text)
        if item.cause is Cause.FULL:
            self.refusal = Overloaded(item.text)
        if self.state is State.OPEN:
            self.lose(item.text or item.cause.name.lower(), now, effects)
        return None

    def _say_hello(self, now: float, effects: list[SessionEffect]) -> None:
        self.state = State.OPENING
        self._hello_until = now + self._hello_patience_s
        who = self.identity
        self._told = dict(self.topics)
        hello = Hello(who.name, who.role, who.epoch, tuple(self.topics), self._window, who.proof)
        effects.append(Reconnect())
        effects.append(Send(TO_BROKER, Parcel(hello)))

    # -- liveness --------------------------------------------------------------------------

    def heard(self, now: float) -> None:
        """The broker said something, whatever it was (spec 8.1)."""
        self.vigil.turn(now)
        self._pulse.heard = self.vigil.clock(now)

    def said(self, now: float) -> None:
        """We said something to the broker."""
        self._pulse.spoke = self.vigil.clock(now)

    def is_silent(self, now: float) -> bool:
        """Whether the broker has been silent for too long (spec 8.3)."""
        return self._pulse.lost(self.vigil.clock(now), PATIENCE * self.grant.interval_s)

    def beat(self, beat_s: float, now: float, effects: list[SessionEffect]) -> None:
        """Say that we live, if we have said nothing for (nearly) ``beat_s`` (spec 8.2)."""
        if self._pulse.must_speak(self.vigil.clock(now), beat_s * _NEARLY):
            effects.append(Send(TO_BROKER, Parcel(Heartbeat())))

    def wake_at(self, beat_s: float) -> float:
        """When to turn next, for the sake of the attachment."""
        due = self.vigil.next_turn()
        if self.state is State.OPENING:
            return min(due, self._hello_until)
        return min(due, self.vigil.instant(self._pulse.spoke + beat_s))
