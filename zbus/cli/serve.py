"""`zbus serve`: serve a topic from the command line, until a signal ends it."""

from __future__ import annotations

import importlib
import logging
import os
import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import click

from zbus.cli.connection import as_server, serve_until_told
from zbus.cli.options import ExampleFirst, PeerOptions, gathered, peer_options, seconds
from zbus.cli.output import print_json, print_text
from zbus.cli.program import Program
from zbus.peer.dispatcher import Dispatcher
from zbus.peer.peer import Peer

__all__ = ["command", "echo", "found_function"]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Options(PeerOptions):
    topic: str
    function: str | None
    echo: bool
    program: str | None
    name: str | None
    drain_s: float
    handlers: int


@click.command(
    "serve",
    cls=ExampleFirst,
    example=(
        "zbus serve echo --echo",
        "zbus serve text.count --exec 'wc -w'",
        "zbus serve job.submit my_jobs:submit",
    ),
)
@click.argument("topic")
@click.argument("function", metavar="[MODULE:FUNCTION]", required=False)
@click.option("--echo", is_flag=True, help="Reply with the body.")
@click.option(
    "--exec",
    "program",
    metavar="CMD",
    help="Run CMD for each request: the body is its standard input, its output is the reply."
    " CMD is split into words and not given to a shell.",
)
@click.option("--name", help="Name of this server on the bus.  [default: made up]")
@click.option("--handlers", type=click.IntRange(1), default=8, show_default=True,
              help="Requests that are worked on at once.")  # fmt: skip
@click.option(
    "--drain",
    "drain_s",
    type=seconds,
    metavar="TIME",
    default="5",
    show_default=True,
    help="How long to let open requests finish at the end.",
)
@peer_options("ZBUS_BACKEND")
@gathered(_Options)
def command(options: _Options) -> int:
    """Serve TOPIC with --echo, with a program, or with a Python function (body, request).

    A program gets text and bytes as they are and other bodies as JSON; an exit code other than 0
    is an error for whoever asks. When the time of the request is up, its process group is killed.

    SIGTERM and Ctrl-C drain: no new requests, open ones finish. A second one exits at once.
    """
    dispatcher = Dispatcher()
    dispatcher.add(options.topic, _handler(options))

    def ready(peer: Peer) -> None:
        if options.as_json:
            print_json({"ready": True, "topic": options.topic, "name": peer.name})
        else:
            print_text(f'serving "{options.topic}" as {peer.name}; Ctrl-C ends it')
        sys.stdout.flush()

    how = as_server(options, dispatcher, options.name, options.handlers)
    with nullcontext() if options.function is not None else _failures_in_one_line():
        left = serve_until_told(how, ready, drain_s=options.drain_s)
    if not any(left):
        return 0
    counts = ", ".join(f"{count} {what}" for what, count in left._asdict().items() if count)
    click.echo(f"zbus: left unfinished: {counts}", err=True)
    return 1


def _handler(options: _Options) -> Callable[..., Any]:
    ways = [options.echo, options.program is not None, options.function is not None]
    if ways.count(True) != 1:
        raise click.UsageError("Give one of --echo, --exec CMD and MODULE:FUNCTION.")
    if options.function is not None:
        return found_function(options.function)
    return echo if options.program is None else Program(_words(options.program))


def echo(body: Any) -> Any:
    """Reply with the body."""
    return body


def _words(text: str) -> list[str]:
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise click.UsageError(f"--exec {text!r:.80}: {error}.") from None
    if not words:
        raise click.UsageError("--exec needs a program.")
    return words


def found_function(text: str) -> Callable[..., Any]:
    """The function of ``module:function``; modules of the current directory are found, too."""
    module_name, colon, path = text.partition(":")
    if not (module_name and colon and path):
        raise click.UsageError(f"{text!r:.80} is not MODULE:FUNCTION.")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        found: Any = importlib.import_module(module_name)
        for part in path.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError) as error:
        raise click.UsageError(f"{text!r:.80} cannot be imported: {error}.") from error
    if not callable(found):
        raise click.UsageError(f"{text!r:.80} is no function.")
    function: Callable[..., Any] = found
    return function


@contextmanager
def _failures_in_one_line() -> Iterator[None]:
    logger = logging.getLogger("zbus.handler")
    logger.addFilter(_without_traceback)
    try:
        yield
    finally:
        logger.removeFilter(_without_traceback)


def _without_traceback(record: logging.LogRecord) -> bool:
    """A program's failure in one line: where our own code noticed it helps nobody."""
    if record.exc_info and record.exc_info[1] is not None:
        record.msg = f"zbus: {record.getMessage()} {record.exc_info[1]}"
        record.args = ()
        record.exc_info = None
    return True
