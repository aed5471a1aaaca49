"""What an engine needs of the bus: the few methods of a ``Peer`` that it calls.

Rules of this room:

* Engines know these methods and nothing else of the bus, so that they run over a real peer and
  over a simulated one alike.
* Whoever attaches is given the name and the handlers, since a peer serves from its first moment.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Literal, Protocol, TypeAlias

from zbus.peer.channel import Left
from zbus.peer.dispatcher import Dispatcher
from zbus.peer.peer import connect
from zbus.protocol.session import SessionLimits

__all__ = ["HANDLERS", "Attach", "Bus", "Reply", "attach_to"]

HANDLERS = 64
"""Handlers of one engine that run at once."""


class Reply(Protocol):
    """A request that was submitted."""

    def result(self, timeout: float | None = None) -> Any:
        """The reply's body; raises what the request ended with."""

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """What it ended with, if not with a reply."""

    def add_done_callback(self, fn: Callable[[Any], object], /) -> None:
        """Call ``fn`` with this once it has ended."""

    def cancel(self) -> bool:
        """Give it up."""


class Bus(Protocol):
    """One connection to the bus; see ``zbus.Peer``."""

    def request(
        self,
        topic: str,
        body: Any = None,
        *,
        timeout: float,
        to: str = "",
        unserved: Literal["raise", "wait"] = "raise",
    ) -> Any:
        """Ask, and wait for the reply's body."""

    def submit(
        self,
        topic: str,
        body: Any = None,
        *,
        timeout: float,
        to: str = "",
        unserved: Literal["raise", "wait"] = "raise",
    ) -> Reply:
        """Ask without waiting."""

    def push(self, topic: str, body: Any = None) -> None:
        """Send and forget, in order."""

    def flush(self, *, timeout: float) -> int:
        """Wait until every push is settled; how many are not."""

    def close(self, *, drain: float = ...) -> Left:
        """Finish what is open, and leave."""


Attach: TypeAlias = Callable[[str, Dispatcher], Bus]
"""Attaches under a name, with handlers."""


def attach_to(endpoint: str | None, role: Literal["engine", "server"]) -> Attach:
    """How to attach to a broker; None for the default one. Errors as for ``zbus.connect``."""
    return functools.partial(_attach, endpoint, role)


def _attach(
    endpoint: str | None, role: Literal["engine", "server"], name: str, dispatcher: Dispatcher
) -> Bus:
    limits = SessionLimits(handlers=HANDLERS)
    return connect(endpoint, name, dispatcher=dispatcher, role=role, limits=limits)
