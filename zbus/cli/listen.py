"""`zbus listen`: print what is pushed to a topic, one a line.

Rules of this room:

* A push counts as taken once its line is written. With ``--count`` nothing beyond that is taken:
  it stays with its sender, for the next who serves the topic.
* Standard output holds the lines and nothing else.
"""

from __future__ import annotations

import sys
import threading
from dataclasses import dataclass
from typing import Any

import click

from zbus.cli.connection import as_server, serve_until_told
from zbus.cli.failure import BROKEN_PIPE
from zbus.cli.options import ExampleFirst, PeerOptions, gathered, peer_options
from zbus.cli.output import print_json, printable
from zbus.cli.values import shown
from zbus.peer.dispatcher import Dispatcher, Incoming
from zbus.peer.peer import Peer
from zbus.peer.serving import Stop

__all__ = ["Printer", "command"]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Options(PeerOptions):
    topic: str
    count: int | None


@click.command(
    "listen",
    cls=ExampleFirst,
    example=("zbus listen metrics.cpu", "zbus listen metrics.cpu --json --count 10 | jq .body"),
)
@click.argument("topic")
@click.option("--count", type=click.IntRange(1), metavar="N", help="End after so many.")
@peer_options("ZBUS_BACKEND")
@gathered(_Options)
def command(options: _Options) -> int:
    """Serve TOPIC by printing each push that comes, until Ctrl-C or SIGTERM.

    Pushes of one sender come in order. A request to the topic is printed as well, and replied to
    with None. Where others serve the topic too, each sender's pushes go to one of them.
    """
    printer = Printer(options.count, as_json=options.as_json)
    dispatcher = Dispatcher()
    dispatcher.add(options.topic, printer)

    def ready(peer: Peer) -> None:
        click.echo(f'zbus: listening to "{options.topic}" as {peer.name}', err=True)

    how = as_server(options, dispatcher, None, 2)
    serve_until_told(how, ready, printer.stop, drain_s=0.0)
    printer.release()
    return BROKEN_PIPE if printer.is_broken else 0


class Printer:
    """A handler that prints, up to a count."""

    def __init__(self, count: int | None, *, as_json: bool) -> None:
        self.stop = Stop()
        self.is_broken = False
        self._left = count
        self._as_json = as_json
        self._printing = threading.Lock()
        self._released = threading.Event()

    def __call__(self, body: Any, request: Incoming) -> None:
        """Print it; whatever comes after the last one waits, and so is not taken."""
        with self._printing:
            if self._print(body, request):
                return
        self._released.wait()

    def release(self) -> None:
        """Let go of those that wait. To be called once this peer is closed."""
        self._released.set()

    def _print(self, body: Any, request: Incoming) -> bool:
        """Whether it was printed."""
        if self._left == 0 or self.is_broken:
            return False
        try:
            self._write(body, request)
            sys.stdout.flush()
        except OSError:
            self.is_broken = True
            self.stop.give()
            return False
        if self._left is not None:
            self._left -= 1
            if not self._left:
                self.stop.give()
        return True

    def _write(self, body: Any, request: Incoming) -> None:
        if self._as_json:
            print_json(
                {
                    "topic": request.topic,
                    "source": request.source,
                    "push": request.is_push,
                    "body": body,
                }
            )
        else:
            text = body if isinstance(body, str) else shown(body)
            click.echo(printable(text, sys.stdout))
