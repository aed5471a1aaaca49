"""Who is on the bus: the peers a broker knows, what they serve, and what is between them.

Rules (spec section 5):

* A name is held by one life of one identity. The same epoch again is the same life on a new
  connection; a greater one takes the name over.
* A route (the socket and its routing id) is a handle for the moment and no identity: it is
  mapped while that connection is the peer's newest, and to nobody afterwards.
* Only servers are found by topic; an engine's topics are for requests that name it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from zbus.errors import ZbusError
from zbus.protocol.budget import Backlog, Budget
from zbus.protocol.effect import Route
from zbus.protocol.liveness import Pulse
from zbus.protocol.message import Hello, Key, Role
from zbus.protocol.policy import Grants

__all__ = ["Peer", "Roster", "Ticket"]


@dataclass(slots=True, eq=False)
class Peer:
    """One life of one peer. ``route`` is None while it is detached; ``asked`` are the tickets
    of its own requests by number, ``holds`` those of the requests that were given to it, and
    ``judged`` those of its own whose handler was lost, kept for a repeat. ``unanswered`` are
    those that it was given and may still be at, though nobody waits. ``identity`` is the
    name that its key proved, ``grants`` what it may do (see ``policy``), and ``backlog`` what
    waits for it (see ``budget``)."""

    name: str
    role: Role
    epoch: int
    proof: bytes = field(repr=False)
    window: int
    pulse: Pulse
    route: Route | None = None
    session: int = field(default=0, repr=False)
    detached_at: float = 0.0
    topics: dict[str, None] = field(default_factory=dict)
    asked: dict[int, Ticket] = field(default_factory=dict)
    holds: dict[Ticket, None] = field(default_factory=dict)
    judged: dict[int, Ticket] = field(default_factory=dict)
    unanswered: dict[Key, Ticket] = field(default_factory=dict)
    identity: str = ""
    grants: Grants | None = None
    backlog: Backlog = field(default_factory=Backlog)

    @property
    def owes(self) -> bool:
        """Whether there is open work in either direction."""
        return bool(self.asked or self.holds)


@dataclass(slots=True, eq=False)
class Ticket:
    """One request under way. ``denied_by`` are the servers that said they do not know its id;
    ``verdict`` is what its origin was told when its handler was lost, kept for a repeat; ``mark``
    is what its handler has read once it answers (see ``budget``), and ``content`` a hash of what
    was asked (see ``quarantine``)."""

    key: Key
    topic: str
    origin: Peer
    deadline: float
    handler: Peer | None = None
    asking: bool = False
    probe: bool = False
    waits: bool = False
    content: int = 0
    denied_by: tuple[str, ...] = ()
    verdict: ZbusError | None = None
    mark: int = 0


class Roster:
    """The peers, found by name, route, session and topic; and the budget of what waits for
    them."""

    def __init__(self, budget: Budget | None = None) -> None:
        self.budget = budget or Budget()
        self._by_name: dict[str, Peer] = {}
        self._by_route: dict[Route, Peer] = {}
        self._by_session: dict[int, Peer] = {}
        self._servers: dict[str, dict[Peer, None]] = {}

    def __len__(self) -> int:
        return len(self._by_name)

    def __iter__(self) -> Iterator[Peer]:
        return iter(list(self._by_name.values()))

    def named(self, name: str) -> Peer | None:
        """The peer that holds this name."""
        return self._by_name.get(name)

    def at(self, route: Route) -> Peer | None:
        """The peer whose newest connection this is."""
        return self._by_route.get(route)

    def of_session(self, session: int) -> Peer | None:
        """The peer that was given this session."""
        return self._by_session.get(session)

    def serving(self, topic: str) -> Iterable[Peer]:
        """The servers of a topic, attached or not."""
        return self._servers.get(topic, ())

    def topics(self) -> dict[str, list[str]]:
        """Every served topic with the names of its servers."""
        return {topic: [peer.name for peer in peers] for topic, peers in self._servers.items()}

    def add(self, hello: Hello, window: int, awake: float) -> Peer:
        """A new life takes its name."""
        peer = Peer(hello.name, hello.role, hello.epoch, hello.proof, window, Pulse(awake))
        self._by_name[peer.name] = peer
        return peer

    def attach(self, peer: Peer, route: Route, session: int) -> None:
        """The peer has a new connection and a new session."""
        self._unmap(peer)
        peer.route, peer.session = route, session
        self._by_route[route] = peer
        self._by_session[session] = peer

    def detach(self, peer: Peer, now: float) -> None:
        """The peer's connection is no more; the peer itself may come back."""
        self._unmap(peer)
        peer.route = None
        peer.detached_at = now

    def remove(self, peer: Peer) -> None:
        """The peer is forgotten, and nothing more is said to it."""
        self._unmap(peer)
        peer.route = None
        self.serve(peer, (), tuple(peer.topics))
        if self._by_name.get(peer.name) is peer:
            del self._by_name[peer.name]

    def serve(self, peer: Peer, added: Iterable[str], withdrawn: Iterable[str]) -> None:
        """The peer serves other topics from now on."""
        for topic in withdrawn:
            peer.topics.pop(topic, None)
            servers = self._servers.get(topic)
            if servers is not None:
                servers.pop(peer, None)
                if not servers:
                    del self._servers[topic]
        for topic in added:
            peer.topics[topic] = None
            if peer.role is Role.SERVER:
                self._servers.setdefault(topic, {})[peer] = None

    def _unmap(self, peer: Peer) -> None:
        self.budget.clear(peer.backlog)
        if peer.route is not None:
            self._by_route.pop(peer.route, None)
        self._by_session.pop(peer.session, None)
