"""A simulated process that keeps no rule: raw sockets, and whatever somebody wants it to say.

Rules of this room:

* It has what any process on the machine has: a DEALER at either door, a PUSH at the pipe. It knows
  no session but its own, and no proof.
* What it says is said once: a port that has no room loses it.
* It notes everything that it is told, so that a test can look whether something was that is not
  for it.
"""

from __future__ import annotations

from collections.abc import Sequence

from zbus.errors import Malformed
from zbus.protocol.codec import decode, encode
from zbus.protocol.message import Item, Parcel, Role, Welcome
from zbus.testing.peers import SimulatedBroker
from zbus.testing.stage import Actor, Stage
from zbus.transport.port import Frame, Port

__all__ = ["Stranger"]


class Stranger(Actor):
    """Says anything, to the broker of this stage."""

    def __init__(self, stage: Stage, broker: SimulatedBroker, name: str = "stranger") -> None:
        super().__init__(stage, name)
        self.reads = True
        """Whether it reads what is sent to it."""
        self.heard: list[Parcel] = []
        self.session = 0
        """Its own session, once it was welcomed."""
        self.role = Role.ENGINE
        """At which door it stands when its life begins."""
        self._listen = broker.settings.listen
        self._door: Port | None = None
        self._pipe: Port | None = None

    def on_begin(self, now: float) -> None:
        listen = self._listen
        door = listen.backend if self.role is Role.SERVER else listen.frontend
        self._door = self.network.connect_dealer(door[0])
        self._pipe = self.network.connect_push(listen.pipe[0])
        self.session = 0

    def on_turn(self, now: float) -> bool:
        if self.reads and self._door is not None:
            for _, frames in self._door.drain(256):
                self._hear(frames)
        return False

    def wake_at(self, now: float) -> float | None:
        return None

    def is_readable(self) -> bool:
        return self.reads and super().is_readable()

    def come_as(self, role: Role) -> None:
        """Stand at the door of this role, on new sockets."""
        self.role = role
        self.restart()

    def say(self, *items: Item | Parcel) -> None:
        """Say these in one message, at the door."""
        parcels = [item if isinstance(item, Parcel) else Parcel(item) for item in items]
        self.shout(encode(parcels))

    def shout(self, frames: Sequence[Frame]) -> None:
        """Send these frames, which need be no message, at the door."""
        self._send(self._door, frames)

    def push(self, frames: Sequence[Frame]) -> None:
        """Send these frames into the pipe."""
        self._send(self._pipe, frames)

    def _send(self, port: Port | None, frames: Sequence[Frame]) -> None:
        if self.is_running and port is not None and frames:
            port.send(b"", frames)
            self.poke()

    def _hear(self, frames: list[Frame]) -> None:
        try:
            parcels = decode(frames)
        except Malformed:
            return
        self.heard += parcels
        for parcel in parcels:
            if isinstance(parcel.item, Welcome):
                self.session = parcel.item.session
