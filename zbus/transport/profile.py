"""The numbers of a socket: marks, times and sizes, each with its reason.

They are ZeroMQ's options under names with units. Each is set before bind or connect, since
ZeroMQ ignores most of them afterwards.
"""

from __future__ import annotations

from dataclasses import dataclass

import zmq

from zbus.protocol.limits import HEADER_MAX_BYTES

__all__ = ["BOUND", "FRAME_MARGIN_BYTES", "SocketProfile", "options_of"]

BOUND = frozenset({int(zmq.ROUTER), int(zmq.PULL)})
"""The kinds of socket that bind: where peers come in."""
FRAME_MARGIN_BYTES = 4_096
"""Keeps an honest frame at the limit well inside."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SocketProfile:
    """What may differ from one bus to another. What may not (no lingering, no ZeroMQ
    heartbeats, mandatory routing, no chosen routing ids) stands in ``transport.sockets``."""

    frame_max_bytes: int = HEADER_MAX_BYTES + FRAME_MARGIN_BYTES
    """A connection to us that sends a longer frame is cut. Not below a header, nor below the
    largest body the bus allows."""
    send_mark: int = 64
    """Messages that wait for one connection before FULL. Few, because each may hold a batch,
    and what waits here is neither counted nor taken back by the bus."""
    receive_mark: int = 1_000
    """Messages that wait to be drained, for one connection."""
    handshake_ms: int = 3_000
    """A connection that has not said who it is by then holds a descriptor for nothing."""
    backlog: int = 4_096
    """All peers of a broker that comes back connect at once; at 100 that takes three times as
    long as at 4,096."""
    connect_ms: int = 3_000
    """An address that does not answer is tried again after this, not after the system's two
    minutes."""
    reconnect_ms: int = 50
    """The first pause before connecting again; ZeroMQ adds some chance to it."""
    reconnect_max_ms: int = 500
    """The pauses double up to this. Without a maximum, 2,000 peers of a dead broker burn a
    third of a core; with a larger one, a restart takes longer than it is promised to."""
    keepalive_idle_s: int = 5
    keepalive_every_s: int = 2
    keepalive_count: int = 3
    """A quiet tcp connection whose other end is gone is noticed after 5 + 2 x 3 seconds."""
    unanswered_ms: int = 15_000
    """A busy one after this (TCP_MAXRT), since keepalive does not look at busy ones. Not less:
    it also cuts a peer that is alive and does not read."""
    ipv6: bool = False


def options_of(profile: SocketProfile, kind: int) -> list[tuple[int, int]]:
    """Every option of this kind of socket; they work only before bind or connect."""
    every: list[tuple[int, int]] = [
        (zmq.LINGER, 0),  # the bus waits for receipts; closing never waits for a socket
        (zmq.HEARTBEAT_IVL, 0),  # else a process that stalls at its receive mark is aborted
        (zmq.SNDHWM, profile.send_mark),
        (zmq.RCVHWM, profile.receive_mark),
        (zmq.HANDSHAKE_IVL, profile.handshake_ms),
        (zmq.TCP_KEEPALIVE, 1),
        (zmq.TCP_KEEPALIVE_IDLE, profile.keepalive_idle_s),
        (zmq.TCP_KEEPALIVE_INTVL, profile.keepalive_every_s),
        (zmq.TCP_KEEPALIVE_CNT, profile.keepalive_count),
        (zmq.TCP_MAXRT, profile.unanswered_ms),
        (zmq.IPV6, int(profile.ipv6)),
    ]
    if kind in BOUND:
        # Where peers come in. What a broker passes on to a peer, it has let in by this.
        every.append((zmq.MAXMSGSIZE, profile.frame_max_bytes))
        every.append((zmq.BACKLOG, profile.backlog))
    else:
        every.append((zmq.IMMEDIATE, 1))  # FULL while nobody is connected, no queue into nothing
        every.append((zmq.CONNECT_TIMEOUT, profile.connect_ms))
        every.append((zmq.RECONNECT_IVL, profile.reconnect_ms))
        every.append((zmq.RECONNECT_IVL_MAX, profile.reconnect_max_ms))
    if kind == zmq.ROUTER:
        every.append((zmq.ROUTER_MANDATORY, 1))  # else what cannot be routed is thrown away
        every.append((zmq.ROUTER_HANDOVER, 0))  # else a peer can take another's routing id
    return every
