"""Ports that a test fills and reads by hand."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from zbus.protocol.codec import decode
from zbus.protocol.message import Item
from zbus.transport.port import Frame, Port, Received, Sent


class FakePort:
    """What was sent, what will be drained, and whether it is full or gone."""

    def __init__(self, *received: Received) -> None:
        self.endpoint = "fake"
        self.sent: list[tuple[bytes, list[Frame]]] = []
        self.received = deque(received)
        self.answers: dict[bytes, Sent] = {}
        self.script: deque[Sent] = deque()
        self.room: int | None = None
        self.users: dict[bytes, str] = {}
        self.closed = False

    def send(self, peer: bytes, frames: Sequence[Frame]) -> Sent:
        answer = self.script.popleft() if self.script else self.answers.get(peer, Sent.SENT)
        if answer is Sent.SENT and self.room is not None:
            answer, self.room = (Sent.SENT, self.room - 1) if self.room else (Sent.FULL, 0)
        if answer is Sent.SENT:
            self.sent.append((peer, list(frames)))
        return answer

    def drain(self, limit: int) -> list[Received]:
        return [self.received.popleft() for _ in range(min(limit, len(self.received)))]

    def user(self, peer: bytes) -> str:
        return self.users.get(peer, "")

    def close(self) -> None:
        self.closed = True

    def said(self, peer: bytes = b"a") -> list[list[Item]]:
        """The items of each message to this peer."""
        return [
            [parcel.item for parcel in decode(frames)] for to, frames in self.sent if to == peer
        ]

    def last(self, peer: bytes = b"") -> list[Item]:
        """The items of everything said since the last look."""
        said = [item for items in self.said(peer) for item in items]
        self.sent.clear()
        return said


class FakeNetwork:
    """Every port that was asked for, in order."""

    def __init__(self) -> None:
        self.dealers: list[FakePort] = []
        self.pushers: list[FakePort] = []
        self.woken = 0

    def connect_dealer(self, endpoint: str) -> Port:
        self.dealers.append(FakePort())
        return self.dealers[-1]

    def connect_push(self, endpoint: str) -> Port:
        self.pushers.append(FakePort())
        return self.pushers[-1]

    def bind_router(self, *endpoints: str) -> Port:
        raise NotImplementedError

    def bind_pull(self, *endpoints: str) -> Port:
        raise NotImplementedError

    def readable(self) -> bool:
        return False

    def wait(self, timeout_s: float | None) -> bool:
        return False

    def wake(self) -> None:
        self.woken += 1

    def close(self, linger_s: float = 0.0) -> None: ...
