"""Every bound of the bus, in one frozen object with a default for each.

Two kinds stand here. The constants are the protocol's own maxima: a message beyond them is
malformed everywhere (spec 3.4). ``Limits`` is what a broker is configured with; the part that
peers must keep reaches them in the Welcome, so that a peer refuses before it sends.

Units are in the names: ``_s`` seconds, ``_bytes`` bytes; bare counts are counts.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = [
    "BATCH_ITEMS_MAX",
    "BATCH_MAX_BYTES",
    "CHUNK_MAX_BYTES",
    "FRAMES_MAX",
    "HEADER_MAX_BYTES",
    "INLINE_MAX_BYTES",
    "NAME_MAX",
    "NAME_PATTERN",
    "PIPES_MAX",
    "PUSH_BATCH_MAX",
    "STRAGGLERS_MAX",
    "TEXT_MAX",
    "TOPICS_MAX",
    "Limits",
    "SessionLimits",
]

INLINE_MAX_BYTES = 65_536
"""A body up to this size stands in its item; a larger one is a frame of its own (spec 2.4)."""
HEADER_MAX_BYTES = 1_048_576
"""A header frame is never longer (spec 3.4)."""
BATCH_MAX_BYTES = 262_144
"""A sender closes a message once its items hold this much, so that control items never wait
behind bulk."""
CHUNK_MAX_BYTES = 1_048_576
"""Bytes of a large body in one Chunk, all its frames together (spec 14.2)."""
BATCH_ITEMS_MAX = 1_024
"""Items in one message (spec 3.4)."""
FRAMES_MAX = 64
"""Body frames behind one header (spec 3.4)."""
PUSH_BATCH_MAX = 1_024
"""Bodies in one Push item (spec 4.9)."""
STRAGGLERS_MAX = 64
"""Open requests far below the newest that a Request may name (spec 6.4)."""
NAME_MAX = 255
"""Length of a topic or a name; both are ASCII (spec 3.5)."""
NAME_PATTERN = r"[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*"
"""The grammar of topics and names as a regular expression, to be matched whole (spec 3.5)."""
TOPICS_MAX = 2_000
"""Topics in one list of a Hello or Serve; two full lists of the longest fit in a header."""
PIPES_MAX = 16
"""Endpoints of the pipe in a Welcome (spec 4.2)."""
TEXT_MAX = 1_024
"""Length of a text that people read, in a Bye or a Fault."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one broker allows. The settings file sets these; each has a line there."""

    heartbeat_s: float = 1.0
    """A silent peer says that it lives this often; everything about loss derives from it."""
    peers: int = 4_096
    """Peers attached at once."""
    body_max_bytes: int = 1_048_576
    """Body of one request, reply or push, all its frames together. A larger one of a request or a
    reply travels in chunks (spec 14)."""
    object_max_bytes: int = 4_294_967_296
    """Body of one request or reply that travels in chunks; 0 for none."""
    open_requests: int = 16_384
    """Requests one peer may have open."""
    window: int = 1_024
    """Requests one handler peer is given at once, whatever it asks for."""
    push_window: int = 1_024
    """Pushes of one sender and topic under way to the server."""
    outbox_bytes: int = 67_108_864
    """Bytes that wait for one peer that does not read; beyond them it is cut."""
    target_bytes: int = 33_554_432
    """Bytes of requests and pushes that wait for one peer; what comes beyond is refused, or kept
    back at its sender. Below ``outbox_bytes``, so that only answers can cut their reader."""
    memory_bytes: int = 536_870_912
    """Bytes that wait for all peers together (see ``budget``)."""
    slow_s: float = 30.0
    """A peer that takes nothing of what waits for it is cut after this. A socket says that it has
    room only once half of its messages have left it, which takes a slow line that long."""
    poison_kills: int = 2
    """Processes that may die while they have the same request, before it is given to no further
    one; 0 for any number (see ``quarantine``)."""
    restart_settle_s: float = 1.5
    """How long a broker that has just started keeps repeats waiting, so that every server has
    come back before a repeat is given to one (spec 6.6). A quiet server notices the restart by
    its next heartbeat, so this is to be longer than one, and some time to connect."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionLimits:
    """What one peer bounds on its own side; the broker's Welcome may bound it further.

    ``handlers`` is how many sync handlers run at once, which the session leaves to its shell.
    ``objects_bytes`` bounds the large bodies that arrive at once, each of them and together.
    """

    handlers: int = 8
    window: int = 1_024
    remembered: int = 65_536
    remembered_bytes: int = 67_108_864
    pushes: int = 65_536
    push_bytes: int = 67_108_864
    push_window: int = 1_024
    objects_bytes: int = 4_294_967_296
