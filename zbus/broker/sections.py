"""The sections of the configuration: each setting, declared once.

Rules of this room:

* A setting is a field of its section. The TOML key is the field's name without its unit
  (``heartbeat_s`` of ``TimesSection`` is ``times.heartbeat``); ``about`` gives the form of its
  values and its reason, which people read in the commented ``zbus.toml``.
* A section that the code does not read does not exist.
* Four times and no more: ``heartbeat``, ``drain``, ``connect`` here, and ``timeout`` per call.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from zbus.broker.forms import (
    Choice,
    Count,
    Directory,
    Duration,
    Endpoints,
    Form,
    OptionalPath,
    Size,
    Switch,
)
from zbus.broker.rules import Rules
from zbus.protocol.limits import Limits
from zbus.protocol.policy import Rule
from zbus.transport.endpoints import broker_endpoint

__all__ = [
    "DOORS",
    "BrokerSection",
    "GovernorSection",
    "LimitsSection",
    "ListenSection",
    "LogSection",
    "PolicySection",
    "SecuritySection",
    "TimesSection",
]

T = TypeVar("T")
DOORS = ("frontend", "backend", "pipe")
"""Where peers and pushes come in: the settings of ``[listen]`` that hold endpoints."""
_ROOT_DIR = Path("/run/zbus")
_PROTOCOL = Limits()


def _about(form: Form[T], text: str) -> Mapping[str, object]:
    """What a field's values look like, and what it is for."""
    return {"form": form, "text": text}


def _door(name: str) -> tuple[str, ...]:
    return (broker_endpoint(_ROOT_DIR, name),)


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerSection:
    """Where the broker lives."""

    runtime_dir: Path = field(
        default=_ROOT_DIR,
        metadata=_about(
            Directory(),
            "Directory of the sockets and the lock; made with mode 0700 where it is missing, and "
            "refused where others could write. Not as root, the default is $XDG_RUNTIME_DIR/zbus, "
            "or else /tmp/zbus-UID.",
        ),
    )
    spin_s: float = field(
        default=0.0002,
        metadata=_about(
            Duration(0.0, 0.01),
            "How long the broker looks for the next message before it sleeps, while it is busy. "
            "Shortens a lone request by a third and costs processor time; 0ms turns it off.",
        ),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenSection:
    """Where peers come in. An endpoint is ipc:///path or tcp://ADDRESS:PORT; one or a list."""

    frontend: tuple[str, ...] = field(
        default=_door("frontend"),
        metadata=_about(
            Endpoints(), "Where engines attach. By default a socket in broker.runtime_dir."
        ),
    )
    backend: tuple[str, ...] = field(
        default=_door("backend"),
        metadata=_about(
            Endpoints(), "Where servers attach. By default a socket in broker.runtime_dir."
        ),
    )
    pipe: tuple[str, ...] = field(
        default=_door("pipe"),
        metadata=_about(
            Endpoints(), "Where pushes come in. By default a socket in broker.runtime_dir."
        ),
    )
    insecure: bool = field(
        default=False,
        metadata=_about(
            Switch(),
            "Allow tcp on loopback without security.key. It is neither encrypted nor "
            "authenticated: every user of the machine can come in. tcp beyond loopback is refused "
            "without a key.",
        ),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class TimesSection:
    """The times of the bus. The fourth, timeout, is an argument of every request."""

    heartbeat_s: float = field(
        default=_PROTOCOL.heartbeat_s,
        metadata=_about(
            Duration(0.05, 3600.0),
            "A silent peer says this often that it lives. A peer that is dead, stopped or cut off "
            "is known as lost within three of these.",
        ),
    )
    drain_s: float = field(
        default=10.0,
        metadata=_about(
            Duration(0.0, 3600.0),
            "How long a stop waits for open requests. TimeoutStopSec= of zbus.service must be "
            "longer by two seconds or more.",
        ),
    )
    connect_s: float = field(
        default=5.0,
        metadata=_about(
            Duration(0.01, 3600.0),
            "How long the commands of this machine wait for the broker to answer before they say "
            "that it is unreachable.",
        ),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitsSection:
    """The bounds of the bus. What reaches one is refused with a reason, or cut; nothing else
    notices."""

    peers: int = field(
        default=_PROTOCOL.peers, metadata=_about(Count(1, 1_000_000), "Peers attached at once.")
    )
    body_max_bytes: int = field(
        default=_PROTOCOL.body_max_bytes,
        metadata=_about(
            Size(1, 2**30),
            "Body of one request, reply or push, its arrays included. A larger one of a request "
            "or a reply travels in chunks.",
        ),
    )
    object_max_bytes: int = field(
        default=_PROTOCOL.object_max_bytes,
        metadata=_about(
            Size(0, 2**40),
            "Body of one request or reply that travels in chunks; 0 for none. The broker keeps "
            "none of it.",
        ),
    )
    open_requests: int = field(
        default=_PROTOCOL.open_requests,
        metadata=_about(
            Count(1, 10_000_000),
            "Requests that one peer may have open.",
        ),
    )
    window: int = field(
        default=_PROTOCOL.window,
        metadata=_about(
            Count(1, 1_000_000),
            "Requests that one server is given at once, whatever it asks for.",
        ),
    )
    push_window: int = field(
        default=_PROTOCOL.push_window,
        metadata=_about(
            Count(1, 1_000_000),
            "Pushes of one sender and topic that are under way at once.",
        ),
    )
    outbox_bytes: int = field(
        default=_PROTOCOL.outbox_bytes,
        metadata=_about(
            Size(1, 2**40),
            "Bytes that wait for one peer that does not read; beyond them it is cut. At least "
            "limits.body_max.",
        ),
    )
    target_bytes: int = field(
        default=_PROTOCOL.target_bytes,
        metadata=_about(
            Size(1, 2**40),
            "Bytes of requests and pushes that wait for one peer. A request beyond them is "
            "refused as Overloaded, a push is kept back at its sender. At most limits.outbox.",
        ),
    )
    memory_bytes: int = field(
        default=_PROTOCOL.memory_bytes,
        metadata=_about(
            Size(1, 2**50),
            "Bytes that wait for all peers together; one of them may have an eighth of what is "
            "left free. At least four times limits.body_max.",
        ),
    )
    slow_s: float = field(
        default=_PROTOCOL.slow_s,
        metadata=_about(
            Duration(0.1, 3600.0),
            "A peer that takes nothing of what waits for it is cut after this. One that is "
            "stopped, or does not answer to heartbeats, is lost long before.",
        ),
    )
    poison_kills: int = field(
        default=_PROTOCOL.poison_kills,
        metadata=_about(
            Count(0, 1_000),
            "Processes that may die while they have the same request, before it is refused as "
            "Poisoned; zbus poison shows and releases it. 0: any number.",
        ),
    )
    restart_settle_s: float = field(
        default=_PROTOCOL.restart_settle_s,
        metadata=_about(
            Duration(0.0, 60.0),
            "How long a broker that has just started keeps repeated requests back, so that every "
            "server is there again before one is given a repeat.",
        ),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class GovernorSection:
    """What connections may cost before they say anything. Who goes beyond is cut, and nobody else
    notices."""

    connections: int = field(
        default=9_216,
        metadata=_about(
            Count(1, 1_000_000),
            "Connections at once, of whatever kind; a peer takes two. Never more than half of the "
            "descriptors that the process may have. Beyond them, who has been silent longest is "
            "cut.",
        ),
    )
    unread_bytes: int = field(
        default=2_097_152,
        metadata=_about(
            Size(1, 2**40),
            "Bytes that one connection may bring before its message is complete; beyond them it "
            "is cut. Never less than the largest message that limits.body_max allows.",
        ),
    )
    strangers_bytes: int = field(
        default=16_777_216,
        metadata=_about(
            Size(1, 2**40),
            "Bytes that all connections together may bring that have not said anything whole "
            "yet; beyond them, who brought most is cut.",
        ),
    )
    hello_s: float = field(
        default=4.0,
        metadata=_about(
            Duration(0.5, 3600.0),
            "How long a connection may be there without being an attached peer's, before it is "
            "cut.",
        ),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class SecuritySection:
    """What makes tcp safe: with a key of the broker's own, everything over tcp is encrypted and
    comes from keys that it trusts. SIGHUP reads security.trust again."""

    key: Path | None = field(
        default=None,
        metadata=_about(
            OptionalPath("a file made by zbus keygen"),
            "The broker's secret key. Nobody else may be able to read it.",
        ),
    )
    trust: Path | None = field(
        default=None,
        metadata=_about(
            OptionalPath("a directory"),
            "Directory of the public keys that are let in; zbus trust and zbus revoke keep it.",
        ),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicySection:
    """Who may do what. SIGHUP reads this section again."""

    engine_to_engine: bool = field(
        default=True,
        metadata=_about(
            Switch(),
            "Engines may send requests to other engines by name.",
        ),
    )
    rules: Mapping[str, Rule] | None = field(
        default=None,
        metadata=_about(
            Rules(),
            "Once there is a rule, what no rule allows is denied. A rule is for the peer of its "
            "name and all below it, as in [policy.rules.site-1]; the rule called local is for the "
            "peers of this machine that have none.",
        ),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class LogSection:
    """What is written to standard error."""

    level: str = field(
        default="info",
        metadata=_about(
            Choice(("debug", "info", "warning", "error")),
            "The least severe events that are written.",
        ),
    )
    format: str = field(
        default="auto",
        metadata=_about(
            Choice(("auto", "json", "text")),
            "One JSON object a line, or text for people; auto is text on a terminal, else JSON.",
        ),
    )
