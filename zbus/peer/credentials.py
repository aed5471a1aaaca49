"""The keys of a peer: what it shows to a broker over tcp, and what it makes of a refusal.

Rules of this room:

* Over ipc no key is needed and none is shown; over tcp beyond this machine none is an error
  before anything is sent. Keys are files, named by argument or by ``ZBUS_KEY`` and
  ``ZBUS_SERVER_KEY``, never values; the latter may be two, apart by ``:``, so that a broker can
  change its key while no peer stops. Before the environment goes what a parent handed over.
* ZeroMQ says why a handshake failed where the broker said so (unknown, revoked) or the two speak
  differently (no security). A broker with another key hangs up and says nothing; so does one that
  is just going down. So that is believed after it hung up ``CUTS`` times on each key.
* Whoever is attached already goes on trying, as with a broker that is away; only a revoked key
  is the end.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypedDict

from zbus.errors import AuthFailed, ZbusError
from zbus.peer.handover import HandedKeys, handed_over
from zbus.protocol.session import Identity, SessionLimits
from zbus.transport.guard import ClientGuard, Gate, Handshake

if TYPE_CHECKING:
    from zbus.broker.keys import SecretKey

__all__ = [
    "CUTS",
    "Credentials",
    "File",
    "KeyFiles",
    "PeerOptions",
    "ServerOptions",
    "keys_of",
    "own_name",
    "peer_options",
]

CUTS = 8
"""Hang-ups until it is believed: 0.4 s. A broker without security mostly says so among them."""
_LOOPBACK = re.compile(r"tcp://(?:127\.[0-9.]+|\[::1\]|localhost):[0-9]+", re.ASCII)
File: TypeAlias = str | os.PathLike[str]


class KeyFiles(TypedDict, total=False):
    """Where a peer's keys are: ``key`` its own secret file, ``server_key`` the broker's public
    file, or several of which it may have any."""

    key: File | None
    server_key: File | Sequence[File] | None


class PeerOptions(KeyFiles, total=False):
    """What ``connect`` takes besides: what this peer bounds on its own side, and its keys."""

    limits: SessionLimits | None


class ServerOptions(KeyFiles, total=False):
    """What ``serve`` takes besides: handlers that run at once, and the keys."""

    handlers: int


def peer_options(options: Mapping[str, Any]) -> Any:
    """The options, if there are no others: else TypeError, as for any argument."""
    for name in options:
        if name not in PeerOptions.__annotations__:
            raise TypeError(f"there is no argument {name!r}")
    return options


class Credentials:
    """The keys for one endpoint. ``refuse`` hears, once or more, why the broker lets us in not.

    Raises:
        AuthFailed: a key is needed and there is none.
        ConfigError: a key file cannot be used.
    """

    def __init__(
        self,
        endpoint: str,
        files: KeyFiles,
        refuse: Callable[[ZbusError, bool], object],
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        self._endpoint = endpoint
        self._refuse = refuse
        self._environ = environ
        self._cuts = 0
        self.own = _own(endpoint, files, environ)
        self._servers = _servers(endpoint, files, environ) if self.own else ()
        self.gate = Gate(self._guard(), self._heard)
        if self.own is None and endpoint.startswith("tcp://") and not _LOOPBACK.match(endpoint):
            raise AuthFailed(f"{endpoint} is beyond this machine, and this peer was given no key")

    def named(self, identity: Identity, chosen: str | None) -> Identity:
        """A name that was made up for us, as our key may have it; one that was chosen, here or by
        the parent, stays."""
        environ = self._environ
        if self.own is None or chosen or environ.get("ZBUS_NAME") or handed_over(environ):
            return identity
        return replace(identity, name=f"{self.own.name}.{identity.name}")

    def _guard(self) -> ClientGuard | None:
        own = self.own
        if own is None:
            return None
        return ClientGuard(public=own.public, secret=own.secret, servers=self._servers)

    def _heard(self, handshake: Handshake, attempt: int) -> None:
        """What became of a handshake with the broker's key number ``attempt``."""
        if handshake is Handshake.CUT:
            self._hung_up(attempt)
            return
        self._cuts = 0
        if handshake is not Handshake.DONE:
            final = handshake is Handshake.REVOKED
            self._refuse(AuthFailed(self._why(handshake)), final)

    def _hung_up(self, attempt: int) -> None:
        if self.own is None or attempt != self.gate.attempt:
            return  # of the key before; ZeroMQ goes on with it until the socket is closed
        self._cuts += 1
        if self._cuts >= CUTS:
            self._cuts = 0
            self.gate.attempt += 1
            if self.gate.attempt >= len(self._servers):
                self._refuse(AuthFailed(self._why(Handshake.CUT)), False)

    def _why(self, handshake: Handshake) -> str:
        own = f"the key {self.own.fingerprint} of {self.own.name}" if self.own else ""
        if handshake is Handshake.REVOKED:
            return f"{own} was revoked at the broker at {self._endpoint}"
        if handshake is Handshake.UNKNOWN:
            return (
                f"{own} is unknown to the broker at {self._endpoint}"
                if own
                else (f"the broker at {self._endpoint} does not let this peer in without a key")
            )
        if handshake is Handshake.CUT:
            return f"wrong server key: the broker at {self._endpoint} has another one, or none"
        if own:
            return f"no security: the broker at {self._endpoint} has no key"
        return f"no security: the broker at {self._endpoint} takes peers with a key only"


def own_name(
    name: str, endpoint: str, files: KeyFiles, environ: Mapping[str, str] = os.environ
) -> str:
    """A name that is made up, as the key that these files or the environment name may have it."""
    own = _own(endpoint, files, environ)
    return name if own is None else f"{own.name}.{name}"


def keys_of(files: KeyFiles) -> HandedKeys:
    """What these files hold, to be handed to a child.

    Raises:
        AuthFailed: there is no server key among them.
        ConfigError: a key file cannot be used.
    """
    from zbus.broker.keys import read_secret

    own = read_secret(Path(files["key"] or ""))
    servers = _servers("its broker", files, {})
    return HandedKeys(own.name, own.public, own.secret, servers)


def _own(endpoint: str, files: KeyFiles, environ: Mapping[str, str]) -> SecretKey | None:
    if not endpoint.startswith("tcp://"):
        return None
    path = files.get("key")
    keys = None if path else _handed(environ)
    if not (path := path or environ.get("ZBUS_KEY")) and keys is None:
        return None
    from zbus.broker.keys import SecretKey, read_secret  # where it is needed: it takes time

    if keys is not None:
        return SecretKey(keys.name, keys.public, keys.secret)
    return read_secret(Path(path or ""))


def _servers(endpoint: str, files: KeyFiles, environ: Mapping[str, str]) -> tuple[str, ...]:
    given = files.get("server_key")
    if given is None:
        if keys := _handed(environ):
            return keys.servers
        listed: Sequence[File] = [
            each for each in environ.get("ZBUS_SERVER_KEY", "").split(os.pathsep) if each
        ]
    else:
        listed = [given] if isinstance(given, str | os.PathLike) else given
    if not listed:
        raise AuthFailed(f"this peer has a key but was given no server key for {endpoint}")
    from zbus.broker.keys import read_public

    return tuple(read_public(Path(each)).public for each in listed)


def _handed(environ: Mapping[str, str]) -> HandedKeys | None:
    handed = handed_over(environ)
    return handed.keys if handed is not None else None
