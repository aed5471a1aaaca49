"""`zbus req`: ask once, print the reply, and say in words and exit code why there is none."""

from __future__ import annotations

import time
from dataclasses import dataclass

import click

from zbus.cli.connection import connected
from zbus.cli.options import ExampleFirst, PeerOptions, gathered, peer_options, seconds
from zbus.cli.output import print_json, print_reply
from zbus.cli.values import typed_body

__all__ = ["command"]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Options(PeerOptions):
    topic: str
    body: str | None
    timeout_s: float
    to: str
    wait: bool
    json_body: bool


@click.command(
    "req",
    cls=ExampleFirst,
    example=(
        "zbus req echo hi",
        "zbus req job.submit '{\"id\": 7}' --json-body --timeout 2",
        "zbus req stop --to engine-3",
    ),
)
@click.argument("topic")
@click.argument("body", required=False)
@click.option(
    "--timeout",
    "timeout_s",
    type=seconds,
    metavar="TIME",
    default="5",
    show_default=True,
    help="When the request ends, whatever happens.",
)
@click.option("--to", default="", metavar="NAME", help="Ask the peer of this name.")
@click.option("--wait", is_flag=True, help="Wait until somebody serves the topic.")
@click.option("--json-body", is_flag=True, help="BODY is JSON, not text.")
@peer_options("ZBUS_ENDPOINT")
@gathered(_Options)
def command(options: _Options) -> None:
    """Ask whoever serves TOPIC, and print the reply.

    BODY is sent as text; "-" reads it from standard input; without it the body is None. A reply
    that is text is printed as it is, bytes too where this is no terminal, anything else as JSON.

    The exit code says why there is no reply, and whether the handler ran: see `zbus explain`.
    """
    body = typed_body(options.body, is_json=options.json_body)
    with connected(options, "req") as peer:
        began = time.monotonic()
        reply = peer.request(
            options.topic,
            body,
            timeout=options.timeout_s,
            to=options.to,
            unserved="wait" if options.wait else "raise",
        )
        took_s = time.monotonic() - began
    if options.as_json:
        print_json({"topic": options.topic, "reply": reply, "took_s": round(took_s, 6)})
    else:
        print_reply(reply)
