"""What a peer is called, in which life, and where its broker is, when nobody says.

Rules:

* An epoch grows at every start of the same name on one machine and does not follow the wall
  clock: it is the monotonic clock, so that a clock set back an hour changes nothing (P17).
* A parent hands a child its name, epoch, proof and endpoint through a pipe (``ZBUS_LAUNCH``), or
  all but the last through the environment (``ZBUS_NAME``, ``ZBUS_EPOCH``, ``ZBUS_TOKEN``), never
  through its command line. The pipe goes before the environment.
* The parent says the epoch once, and the child may connect twice: each time its epoch is one
  greater, else the second life would get the first one's replies (spec 6.4).
"""

from __future__ import annotations

import itertools
import os
import secrets
import time
from collections.abc import Mapping
from dataclasses import replace

from zbus.errors import InvalidName
from zbus.peer.handover import handed_over
from zbus.protocol.message import Role
from zbus.protocol.session import Identity
from zbus.protocol.topics import check_name
from zbus.transport.endpoints import client_endpoints

__all__ = ["another_life", "default_endpoint", "identify"]

_lives = itertools.count()
_EPOCH_MAX = 2**63 - 1
_PROOF_MAX_BYTES = 256
"""What a Hello can say (spec 4.1); a broker would send away whoever says more."""


def identify(name: str | None, role: Role, environ: Mapping[str, str] = os.environ) -> Identity:
    """Who this process is on the bus.

    Raises:
        InvalidName: the name, or an epoch or token that the parent said, is not well formed.
    """
    if handed := handed_over(environ):
        return Identity(
            name=check_name(name or handed.name),
            role=role,
            epoch=handed.epoch,
            proof=_proof(handed.token),
        )
    name = name or environ.get("ZBUS_NAME") or _made_up(role)
    return Identity(
        name=check_name(name),
        role=role,
        epoch=_epoch(environ.get("ZBUS_EPOCH", "")),
        proof=_proof(environ.get("ZBUS_TOKEN", "")),
    )


def another_life(identity: Identity, environ: Mapping[str, str] = os.environ) -> Identity:
    """The same, with a greater epoch than all that began in this process before."""
    if not environ.get("ZBUS_EPOCH") and not handed_over(environ):
        return identity
    return replace(identity, epoch=identity.epoch + next(_lives))


def default_endpoint(role: Role, environ: Mapping[str, str] = os.environ) -> str:
    """Where a peer of this role finds the broker of this machine."""
    endpoints = client_endpoints(environ, os.getuid())
    if handed := handed_over(environ):
        chosen = handed.backend if role is Role.SERVER else handed.endpoint
        if chosen:
            return chosen
    return endpoints.backend if role is Role.SERVER else endpoints.frontend


def _epoch(text: str) -> int:
    if not text:
        return time.monotonic_ns()
    digits = text.isascii() and text.isdecimal() and len(text) <= len(str(_EPOCH_MAX))
    if not digits or int(text) > _EPOCH_MAX:
        raise InvalidName(f"ZBUS_EPOCH {text!r:.40} is not a number from 0 to {_EPOCH_MAX}")
    return int(text)


def _proof(token: str) -> bytes:
    # A secret is not quoted, and an environment may hold bytes that are no UTF-8.
    proof = token.encode("utf-8", "surrogateescape")
    if len(proof) > _PROOF_MAX_BYTES:
        raise InvalidName(f"ZBUS_TOKEN has {len(proof)} bytes, and at most {_PROOF_MAX_BYTES} fit")
    return proof


def _made_up(role: Role) -> str:
    return f"{role.name.lower()}-{os.getpid()}-{secrets.token_hex(4)}"
