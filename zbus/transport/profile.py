"""The numbers of a socket: marks, times and sizes, each with its reason.

They are ZeroMQ's options under names with units. Each is set before bind or connect, since
ZeroMQ ignores most of them afterwards.
"""

from __future__ import annotations

from dataclasses import dataclass

from zbus.protocol.limits import HEADER_MAX_BYTES

__all__ = ["FRAME_MARGIN_BYTES", "SocketProfile"]

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
