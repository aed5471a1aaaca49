"""What a parent hands its child: name, life, proof, job, keys and where the broker is.

Rules:

* It travels in a pipe that the child inherits. ``ZBUS_LAUNCH`` says which descriptor that is and
  which pipe, ``FD:INODE``, and nothing else: what all processes of a machine can read, which are
  the command line and ``/proc/PID/environ``, holds no secret.
* Who asks first takes it, once: a pipe can be read once. So neither a fork nor what the child
  starts itself is mistaken for the child, also where it inherits variable and descriptor.
* A descriptor that is not that very pipe is somebody else's, and is left alone.
"""

from __future__ import annotations

import json
import os
import secrets
import select
import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from zbus.errors import InvalidName

__all__ = ["LAUNCH", "HandedKeys", "Handover", "handed_over", "new_token", "open_handover"]

LAUNCH = "ZBUS_LAUNCH"
_BYTES_MAX = select.PIPE_BUF
"""What a pipe takes in one piece, so that it can be written before anybody reads."""
_taken: dict[tuple[int, str], Handover] = {}
_taking = threading.Lock()


@dataclass(frozen=True, slots=True)
class HandedKeys:
    """The keys of a child over tcp, as values: whose its own is, both sides of it, and the public
    keys of the broker that it may meet."""

    name: str
    public: str
    secret: str = field(repr=False)
    servers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Handover:
    """``endpoint`` is for engines and ``backend`` for servers; empty is the default one."""

    name: str
    epoch: int
    token: str = field(default="", repr=False)
    job: str = ""
    endpoint: str = ""
    backend: str = ""
    keys: HandedKeys | None = None


def new_token() -> str:
    """A launch token nobody can guess: the proof that a later life of the same name shows."""
    return secrets.token_hex(16)


def open_handover(handover: Handover) -> tuple[int, str]:
    """A descriptor for the child to inherit, and what ``ZBUS_LAUNCH`` says of it there.

    Raises:
        ValueError: it is longer than a pipe takes at once, 4,096 bytes.
    """
    text = json.dumps(asdict(handover)).encode()
    if len(text) > _BYTES_MAX:
        raise ValueError(f"what is handed over has {len(text)} bytes; {_BYTES_MAX} fit")
    reading, writing = os.pipe()
    try:
        os.write(writing, text)
    finally:
        os.close(writing)
    return reading, f"{reading}:{os.fstat(reading).st_ino}"


def handed_over(environ: Mapping[str, str] = os.environ) -> Handover | None:
    """What the parent of this process handed it; None if nothing, or not to this process.

    Raises:
        InvalidName: what stands in the pipe is no handover.
    """
    place = environ.get(LAUNCH)
    if not place:
        return None
    key = os.getpid(), place
    with _taking:
        if key not in _taken and (handover := _take(place)):
            _taken[key] = handover
        return _taken.get(key)


def _take(place: str) -> Handover | None:
    number, _, inode = place.partition(":")
    try:
        descriptor = int(number)
        if os.fstat(descriptor).st_ino != int(inode):
            return None
        text = os.read(descriptor, _BYTES_MAX) if _is_readable(descriptor) else b""
        os.close(descriptor)
    except (OSError, ValueError, OverflowError):
        return None
    return _read(text) if text else None


def _is_readable(descriptor: int) -> bool:
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(0))


def _read(text: bytes) -> Handover:
    # A parent of a later version may say more.
    try:
        said = json.loads(text)
        known = {name: said[name] for name in Handover.__slots__ if name in said}
        known["keys"] = _keys(known.get("keys"))
        handover = Handover(**known)
    except (ValueError, TypeError, KeyError):
        raise InvalidName(f"the pipe of {LAUNCH} holds no handover") from None
    if type(handover.epoch) is not int or not 0 <= handover.epoch < 2**63:
        raise InvalidName(f"the epoch in the pipe of {LAUNCH} is out of range")
    return handover


def _keys(said: Mapping[str, Any] | None) -> HandedKeys | None:
    if said is None:
        return None
    keys = HandedKeys(said["name"], said["public"], said["secret"], tuple(said["servers"]))
    texts = keys.name, keys.public, keys.secret, *keys.servers
    if not keys.servers or not all(type(each) is str for each in texts):
        raise ValueError
    return keys
