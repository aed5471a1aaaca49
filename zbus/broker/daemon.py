"""The broker machine over its three ports, turned by whoever holds it.

Single-threaded, and without a process around it, so that the simulator turns the same daemon
that ``broker.life`` turns as a process. It answers the topics below ``zbus.``, logs what
happened, and sends away whoever sends garbage or does not read.
"""

from __future__ import annotations

import logging
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version

from zbus.broker.settings import Settings
from zbus.broker.status import answer_to
from zbus.errors import Malformed, ZbusError
from zbus.peer.body import encode_body
from zbus.protocol.broker import Broker
from zbus.protocol.codec import OtherVersion, encode
from zbus.protocol.effect import Asked, BrokerEffect, Happened, Lane, Route
from zbus.protocol.message import Cause, Heartbeat, Parcel
from zbus.protocol.outboxes import Waiting
from zbus.protocol.policy import Policy
from zbus.transport.port import LOCAL, Network, Port, Sent
from zbus.transport.turn import Turn

__all__ = ["Daemon"]

_logger = logging.getLogger("zbus.broker")
_CONDEMNED_MAX = 4_096


class Daemon:
    """One broker: machine, ports, turn. ``name_of`` says whose a key is; None for a key that is
    not trusted.

    Whoever looks after the connections takes routes from ``condemned`` and cuts them, counts in
    ``counts``, and puts into ``gauges`` what the status is to say of them.
    """

    def __init__(
        self,
        settings: Settings,
        network: Network,
        tokens: Iterator[int],
        now: float,
        name_of: Callable[[str], str | None] = lambda key: None,
    ) -> None:
        self.settings = settings
        self.counts: Counter[str] = Counter()
        self.gauges: dict[str, int] = {}
        self.condemned: deque[Route] = deque(maxlen=_CONDEMNED_MAX)
        self._network = network
        self._started = now
        self._name_of = name_of
        listen = settings.listen
        self.broker = Broker(
            settings.limits(),
            tokens,
            pipe=listen.pipe,
            engine_to_engine=settings.policy.engine_to_engine,
            policy=Policy(settings.policy.rules, self._prove),
            now=now,
        )
        self.broker.reaches = self._reaches
        self._turn: Turn[BrokerEffect] = Turn(self.broker, self, settings.bounds.outbox_bytes)

    def open(self) -> None:
        """Bind the three sockets; ``ConfigError`` where one cannot be bound."""
        listen, ports = self.settings.listen, self._turn.ports
        ports[Lane.FRONTEND] = self._network.bind_router(*listen.frontend)
        ports[Lane.BACKEND] = self._network.bind_router(*listen.backend)
        ports[Lane.PIPE] = self._network.bind_pull(*listen.pipe)

    def adopt(self, settings: Settings, now: float) -> None:
        """Another policy holds from now on, and what ``name_of`` says now; the rest of the
        settings is the same. Whom it sends away is cut, so that a revoked key has no
        connection."""
        self.settings = settings
        policy = Policy(settings.policy.rules, self._prove)
        roster = self.broker.roster
        attached = [peer.route for peer in roster if peer.route is not None]
        self._turn.perform(self.broker.adopt(policy, settings.policy.engine_to_engine), now)
        self._turn.flush(now)
        self.condemned.extend(route for route in attached if roster.at(route) is None)

    def step(self, now: float) -> bool:
        """One turn; whether another is due at once."""
        more = self._turn.once(now)
        waiting = self._turn.waiting()
        if waiting or len(self.broker.outboxes):
            self._weigh({route: Waiting(*each) for route, each in waiting.items()}, now)
        return more

    def _weigh(self, waiting: dict[Route, Waiting], now: float) -> None:
        """Who takes nothing of what waits for it is sent away (P8, P9)."""
        for route, cut in self.broker.outboxes.report(waiting, now):
            self._turn.drop(route)
            if not cut:
                self.condemned.append(route)
            else:
                self.counts["slow"] += 1
                self._turn.perform(self.broker.cut(route, Cause.SLOW, cut, now), now)
        self._turn.flush(now)

    def wake_at(self, now: float) -> float | None:
        """When the next turn is due, if nothing arrives before."""
        return self._turn.wake_at(now)

    @property
    def ports(self) -> Mapping[Lane, Port]:
        """The ports that are open."""
        return self._turn.ports

    @property
    def received(self) -> int:
        """Messages that have come until now."""
        return self._turn.received

    def drain(self) -> None:
        """Take no new requests from now on."""
        self.broker.drain()

    @property
    def is_drained(self) -> bool:
        """No request is open, and everything said has been handed over."""
        return not len(self.broker.switchboard.tickets) and self._turn.is_empty()

    def left(self) -> list[str]:
        """The open requests, for people: who asked what."""
        return [
            f"{ticket.key.source} #{ticket.key.number} {ticket.topic}"
            for peer in self.broker.roster
            for ticket in peer.asked.values()
        ]

    def close(self, now: float) -> None:
        """Say goodbye to everybody; the ports are the network's to close."""
        self._turn.perform(self.broker.close(), now)
        self._turn.flush(now)

    # -- the turn's owner ------------------------------------------------------------------

    def carry(self, effect: BrokerEffect, now: float) -> None:
        """Log what happened; answer what was asked of the broker itself."""
        if isinstance(effect, Happened):
            self.counts[effect.event] += 1
            _logger.info(effect.event, extra={"fields": dict(effect.fields)})
        elif isinstance(effect, Asked):
            self._turn.perform(self._answer(effect, now), now)

    def malformed(self, route: Route, error: Malformed, now: float) -> None:
        """Garbage: whoever sent it is sent away. On the pipe nobody can be told."""
        self.counts["malformed"] += 1
        _logger.warning("malformed_message", extra={"fields": {"lane": route.lane.name.lower()}})
        if route.lane is not Lane.PIPE:
            self.condemned.append(route)
            cause = Cause.VERSION if isinstance(error, OtherVersion) else Cause.MALFORMED
            effects = self.broker.cut(route, cause, error.what, now)
            self._turn.perform(effects, now)

    def unreachable(self, route: Route, now: float) -> None:
        """The socket says that this route is gone."""
        self._turn.perform(self.broker.gone(route, now), now)

    def overflowed(self, route: Route, now: float) -> None:
        """Too much waits for a peer that does not read: it is sent away (P8)."""
        text = "too much waits for this peer, which does not read"
        self._turn.perform(self.broker.cut(route, Cause.SLOW, text, now), now)

    def _prove(self, route: Route) -> str | None:
        """See ``Policy``."""
        port = self._turn.ports.get(route.lane)
        user = port.user(route.peer) if port is not None else ""
        return "" if user in ("", LOCAL) else self._name_of(user)

    def _reaches(self, route: Route) -> bool:
        """Only a socket that is given something says that nobody is there."""
        port = self._turn.ports.get(route.lane)
        beat = encode([Parcel(Heartbeat())])
        return port is not None and port.send(route.peer, beat) is not Sent.GONE

    def _answer(self, asked: Asked, now: float) -> list[BrokerEffect]:
        shell = {
            "version": _version(),
            "uptime_s": round(now - self._started, 3),
            "events": dict(sorted(self.counts.items())),
            **self.gauges,
        }
        try:
            body, frames = encode_body(answer_to(asked.topic, self.broker, shell))
        except ZbusError as error:
            return self.broker.refuse(asked.key, error)
        return self.broker.answer(asked.key, body, frames)


def _version() -> str:
    try:
        return version("zbus-broker")
    except PackageNotFoundError:
        return "unknown"
