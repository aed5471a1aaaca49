"""How a command attaches to a broker: for one errand, or to serve until it is told to stop.

Rules of this room:

* A command's peer has a name that nobody else has, also where ``ZBUS_NAME`` gives its parent
  one: a peer that says hello with a name that is attached takes it over.
* Whoever waits at a terminal is told what for, after a second.
* Keys that are given on the command line go before those of the environment. Where they would
  not be used, or not suffice, the command ends with exit code 2 before anything is sent.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from zbus.cli.failure import INTERRUPTED
from zbus.cli.options import PeerOptions, connect_time
from zbus.cli.output import is_terminal
from zbus.peer.channel import Attachment, Left
from zbus.peer.credentials import KeyFiles, own_name
from zbus.peer.naming import default_endpoint
from zbus.peer.peer import Peer, connect
from zbus.protocol.message import Role
from zbus.protocol.session import SessionLimits

if TYPE_CHECKING:
    from zbus.peer.dispatcher import Dispatcher
    from zbus.peer.serving import Stop

__all__ = ["as_server", "connected", "made_up_name", "serve_until_told"]

_QUIET_S = 1.0


@contextmanager
def connected(options: PeerOptions, purpose: str) -> Iterator[Peer]:
    """A peer for one errand: attached, and gone at the end.

    Raises:
        UsageError: the keys that are given cannot be used there.
        AuthFailed: the broker and this peer do not trust each other's keys.
        BrokerUnreachable: no broker answered in time.
    """
    with _notice_of_waiting():
        keys = _keys_of(options, Role.ENGINE)
        name = own_name(made_up_name(purpose), options.endpoint or "", keys)
        peer = connect(options.endpoint, name, timeout=connect_time(options), **keys)
    with peer:
        yield peer


def as_server(
    options: PeerOptions, dispatcher: Dispatcher, name: str | None, handlers: int
) -> Attachment:
    """How to attach as a server; None is a made-up name.

    Raises:
        UsageError: the keys that are given cannot be used there.
    """
    keys = _keys_of(options, Role.SERVER)
    return Attachment(
        endpoint=options.endpoint,
        name=name or own_name(made_up_name("serve"), options.endpoint or "", keys),
        dispatcher=dispatcher,
        role="server",
        timeout=connect_time(options),
        limits=SessionLimits(handlers=handlers),
        **keys,
    )


def serve_until_told(
    how: Attachment,
    ready: Callable[[Peer], None],
    stop: Stop | None = None,
    *,
    drain_s: float,
) -> Left:
    """Attach, call ``ready``, serve until a signal or ``stop``, and drain; what was left. A
    second Ctrl-C is the end of this process."""
    from zbus.peer.serving import stay

    with _notice_of_waiting() as end_notice:

        def attached(peer: Peer) -> None:
            end_notice()
            ready(peer)

        try:
            return stay(how, attached, stop, drain=drain_s)
        except KeyboardInterrupt:
            # No thread of a handler that hangs may hold us up any longer.
            sys.stdout.flush()
            os._exit(INTERRUPTED)


def made_up_name(purpose: str) -> str:
    """A name for this process that no other has, and that tells what it is."""
    return f"zbus-{purpose}-{os.getpid()}-{os.urandom(3).hex()}"


def _keys_of(options: PeerOptions, role: Role) -> KeyFiles:
    """The key files of the command line, for ``connect``; what is missing the environment has."""
    if options.key is None and not options.server_key:
        return {}
    endpoint = options.endpoint or default_endpoint(role)
    if not endpoint.startswith("tcp://"):
        raise click.UsageError(f"Keys are for tcp://; {endpoint:.80} needs none.")
    if options.key is None and not os.environ.get("ZBUS_KEY"):
        raise click.UsageError("--server-key needs --key, or $ZBUS_KEY.")
    if not options.server_key and not os.environ.get("ZBUS_SERVER_KEY"):
        raise click.UsageError("--key needs --server-key, or $ZBUS_SERVER_KEY.")
    return {"key": options.key, "server_key": options.server_key or None}


@contextmanager
def _notice_of_waiting() -> Iterator[Callable[[], None]]:
    """Tell whoever looks at the terminal why nothing happens, should this take a second, and
    what is given has not been called by then."""
    text = "zbus: waiting for a broker to answer"
    notice = threading.Timer(_QUIET_S, click.echo, (text,), {"err": True})
    notice.daemon = True
    if is_terminal(sys.stderr):
        notice.start()
    try:
        yield notice.cancel
    finally:
        notice.cancel()
