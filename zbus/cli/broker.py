"""`zbus broker`: run the broker, with a flag for every setting.

Rules of this room:

* The flags are made from ``SETTINGS``, so that a new setting has its flag by itself. What a
  flag says is judged with all the rest of the configuration, by ``load`` and nobody else.
* Standard output says once, when the sockets are bound, where they are and how to connect; what
  happens from then on is the log's, on standard error.
"""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from zbus.broker.forms import (
    Choice,
    Count,
    Directory,
    Duration,
    Endpoints,
    OptionalPath,
    Size,
    Switch,
)
from zbus.broker.life import run_broker
from zbus.broker.logs import LogStream
from zbus.broker.rules import Rules
from zbus.broker.settings import SETTINGS, Setting, Settings, load
from zbus.cli.options import ExampleFirst, command_options
from zbus.transport.endpoints import client_endpoints

__all__ = ["command", "ready_text"]

_METAVARS: dict[type, str] = {
    Count: "N",
    Directory: "DIR",
    Duration: "TIME",
    Endpoints: "ADDRESS",
    OptionalPath: "PATH",
    Rules: "TOML",
    Size: "SIZE",
}


def _flag(setting: Setting) -> click.Option:
    """The flag of a setting. Its value stays text, or a list of texts, until ``load`` reads it."""
    form: Any = setting.form
    help_text = f"{setting.text}  [{setting.variable}]"
    if isinstance(form, Switch):
        switch = f"{setting.flag}/--no-{setting.flag.removeprefix('--')}"
        return click.Option([switch, _parameter(setting)], default=None, help=help_text)
    metavar = "|".join(form.words) if isinstance(form, Choice) else _METAVARS[type(form)]
    return click.Option(
        [setting.flag, _parameter(setting)],
        metavar=metavar,
        multiple=isinstance(form, Endpoints),
        help=help_text,
    )


def _parameter(setting: Setting) -> str:
    return setting.key.replace(".", "__")


@click.command(
    "broker",
    cls=ExampleFirst,
    example=(
        "zbus broker",
        "zbus broker --config my-zbus.toml --heartbeat 500ms",
        "zbus broker --frontend tcp://127.0.0.1:7421 --insecure",
    ),
)
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Settings that are stronger than /etc/zbus and weaker than ZBUS_* and flags.",
)
@command_options
def command(config: Path | None, as_json: bool, debug: bool, **flags: object) -> int:
    """Run the broker until SIGTERM or Ctrl-C.

    It then takes no new requests, lets open ones finish for as long as --drain says, and exits:
    0, or 1 with a list of what it left. A second signal ends it at once. Exit code 78 if the
    configuration is not valid or another broker runs here.
    """
    keys = {_parameter(setting): setting.key for setting in SETTINGS}
    given = {keys[name]: value for name, value in flags.items()}
    settings = load(flags=given, config=config).settings
    with LogStream(settings.log, os.environ):
        return run_broker(
            settings,
            ready=_ready_json(settings) if as_json else ready_text(settings),
            reload=lambda: load(flags=given, config=config).settings,
        )


command.params[1:1] = [_flag(setting) for setting in SETTINGS]


def ready_text(settings: Settings) -> str:
    """Where the broker is, and what to type to use it."""
    return "\n".join(_ready_lines(settings))


def _ready_lines(settings: Settings) -> Iterator[str]:
    listen = settings.listen
    yield f"zbus broker, process {os.getpid()}, is ready"
    for door, endpoints in (("frontend", listen.frontend), ("backend", listen.backend)):
        yield f"  {door:8}  {', '.join(endpoints)}"
    yield f"  pipe      {', '.join(listen.pipe)}"
    usual = client_endpoints(os.environ, os.getuid())
    frontend, backend = listen.frontend[0], listen.backend[0]
    yield "serve     zbus serve echo --echo" + _unless_usual(backend, usual.backend)
    yield "ask       zbus req echo hi" + _unless_usual(frontend, usual.frontend)
    yield f'connect   zbus.connect("{frontend}")'


def _unless_usual(endpoint: str, usual: str) -> str:
    return "" if endpoint == usual else f" --endpoint {shlex.quote(endpoint)}"


def _ready_json(settings: Settings) -> str:
    listen = settings.listen
    return json.dumps(
        {
            "ready": True,
            "pid": os.getpid(),
            "runtime_dir": str(settings.broker.runtime_dir),
            "frontend": listen.frontend,
            "backend": listen.backend,
            "pipe": listen.pipe,
        }
    )
