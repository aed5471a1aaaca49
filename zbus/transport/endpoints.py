"""Where a broker listens and where a peer finds it: the runtime directory and endpoints.

Rules of this room:

* An endpoint is ``ipc:///absolute/path`` or ``tcp://ADDRESS:PORT`` with a numeric address. No
  abstract sockets (they have no permissions), no wildcards, no interface or host names: what
  is written is what is bound.
* ipc is guarded by its directory, tcp by CURVE. tcp without a key is refused, but on loopback
  where the operator says ``insecure`` (promise P16: fail closed). ``check_listening`` is the one
  place that judges this for brokers.
* Nothing here reads the environment or asks who we are: both are arguments.
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

__all__ = [
    "IPC_PATH_MAX_BYTES",
    "ClientEndpoints",
    "broker_endpoint",
    "check_endpoint",
    "check_listening",
    "client_endpoints",
    "default_runtime_dir",
    "ipc_path",
]

IPC_PATH_MAX_BYTES = 107
"""The kernel's room for the path of a socket, less the zero at its end."""
_TCP = re.compile(r"tcp://(?:\[([0-9A-Fa-f:.]+)\]|([0-9.]+)):([0-9]{1,5})", re.ASCII)


class ClientEndpoints(NamedTuple):
    """Where a peer on this machine finds the broker. The pipe's endpoint comes with Welcome."""

    frontend: str
    backend: str


def default_runtime_dir(environ: Mapping[str, str], uid: int) -> Path:
    """Where sockets and lock are: ``$ZBUS_RUNTIME_DIR``, else ``/run/zbus`` for root, else
    ``$XDG_RUNTIME_DIR/zbus``, else ``/tmp/zbus-<uid>``. An empty variable is no variable."""
    if chosen := environ.get("ZBUS_RUNTIME_DIR"):
        return Path(chosen)
    if uid == 0:
        return Path("/run/zbus")
    if session := environ.get("XDG_RUNTIME_DIR"):
        return Path(session) / "zbus"
    return Path(f"/tmp/zbus-{uid}")


def broker_endpoint(runtime_dir: Path, door: str) -> str:
    """The default endpoint of a door: ``frontend``, ``backend`` or ``pipe``."""
    return f"ipc://{runtime_dir / door}"


def client_endpoints(environ: Mapping[str, str], uid: int) -> ClientEndpoints:
    """``$ZBUS_ENDPOINT`` and ``$ZBUS_BACKEND``, or the defaults below the runtime directory."""
    place = default_runtime_dir(environ, uid)
    return ClientEndpoints(
        frontend=environ.get("ZBUS_ENDPOINT") or broker_endpoint(place, "frontend"),
        backend=environ.get("ZBUS_BACKEND") or broker_endpoint(place, "backend"),
    )


def ipc_path(endpoint: str) -> Path | None:
    """The path of an ipc endpoint; None for tcp."""
    return Path(endpoint.removeprefix("ipc://")) if endpoint.startswith("ipc://") else None


def check_endpoint(endpoint: str) -> str:
    """The endpoint, if it keeps the grammar above; else ValueError, which says why."""
    if endpoint.startswith("ipc://"):
        return _check_ipc(endpoint)
    if endpoint.startswith("tcp://"):
        _tcp_address(endpoint)
        return endpoint
    raise ValueError("an endpoint starts with ipc:// or tcp://")


def check_listening(endpoint: str, insecure: bool, secure: bool = False) -> None:
    """Refuse to listen where anybody could come in: ValueError, which names the remedy.
    ``secure`` says that tcp has CURVE."""
    if secure or not endpoint.startswith("tcp://"):
        return
    address = _tcp_address(endpoint)
    if not address.is_loopback:
        raise ValueError(
            f"{endpoint} is open to the network, and tcp is only encrypted with a security.key; "
            "give it one, or listen on ipc, or on 127.0.0.1 with insecure = true"
        )
    if not insecure:
        raise ValueError(
            f"{endpoint} is open to every user of this machine; "
            "listen on ipc, or accept that with insecure = true (--insecure)"
        )


def _check_ipc(endpoint: str) -> str:
    path = endpoint.removeprefix("ipc://")
    if not path.startswith("/") or path.endswith("/"):
        raise ValueError("an ipc endpoint holds the absolute path of a socket: ipc:///run/…")
    if "\0" in path:
        raise ValueError("a path holds no zero byte")
    if path.endswith(".lock"):
        raise ValueError("names that end in .lock are those of the broker's lock files")
    length = len(os.fsencode(path))
    if length > IPC_PATH_MAX_BYTES:
        raise ValueError(
            f"the path of a socket has at most {IPC_PATH_MAX_BYTES} bytes, and this has {length}"
        )
    return endpoint


def _tcp_address(endpoint: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    written = _TCP.fullmatch(endpoint)
    if written is None:
        raise ValueError("a tcp endpoint is tcp://ADDRESS:PORT with a numeric address")
    six, four, port = written.groups()
    if not 1 <= int(port) <= 65_535:
        raise ValueError("a tcp port is 1 to 65535; name one, so that peers can find it")
    return ipaddress.IPv6Address(six) if six else ipaddress.IPv4Address(four)
