"""The door of the command line: ``zbus COMMAND``, and what holds for every command.

Rules of this room:

* A command is a room of its own, imported when it is called and not before: ``zbus req`` is a
  process from start to end in the time in which all rooms together would only be imported.
* Whatever a command raises ends here, once: as words or JSON on standard error, and as an exit
  code (``cli.failure``). Ctrl-C and a reader that went away end it quietly.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple, NoReturn

import click

from zbus.cli.failure import BROKEN_PIPE, INTERRUPTED, report
from zbus.cli.options import ExampleFirst

__all__ = ["COMMANDS", "Room", "Root", "main", "root", "versions"]


class Room(NamedTuple):
    """Where a command is, and what it does in one line, told without importing it."""

    module: str
    summary: str


COMMANDS = {
    "broker": Room("zbus.cli.broker", "Run the broker."),
    "serve": Room("zbus.cli.serve", "Serve a topic: echo, a program or a Python function."),
    "req": Room("zbus.cli.req", "Ask once and print the reply."),
    "push": Room("zbus.cli.push", "Send without asking for a reply."),
    "listen": Room("zbus.cli.listen", "Print what is pushed to a topic."),
    "ls": Room("zbus.cli.ls", "List peers, or topics and who serves them."),
    "ping": Room("zbus.cli.ping", "Measure the way to the broker and back."),
    "bench": Room("zbus.cli.bench", "Ask at a steady rate and tell how long it takes."),
    "poison": Room("zbus.cli.poison", "See and release requests that are in quarantine."),
    "keygen": Room("zbus.cli.keygen", "Make a key pair for a broker or a peer."),
    "trust": Room("zbus.cli.trust", "Let the owner of a key in, or list who is let in."),
    "revoke": Room("zbus.cli.revoke", "Let the owner of a key in no longer."),
    "check": Room("zbus.cli.check", "Judge the broker's configuration."),
    "config": Room("zbus.cli.config", "Show the broker's configuration, and who set what."),
    "explain": Room("zbus.cli.explain", "Explain an error code."),
    "demo": Room("zbus.cli.demo", "Train a model over a bus whose broker is killed half way."),
}
"""Every command, in the order of the help. Each room has its ``command``."""
_EXAMPLE = (
    "zbus broker                  # in one terminal",
    "zbus serve echo --echo       # in another",
    "zbus req echo hi             # prints hi",
)
_COMPLETION = 'Completion: eval "$(_ZBUS_COMPLETE=bash_source zbus)"; or zsh_source, fish_source.'


class Root(ExampleFirst, click.Group):
    """``zbus`` itself."""

    def list_commands(self, context: click.Context) -> list[str]:
        """The names, in the order of the table."""
        return list(COMMANDS)

    def get_command(self, context: click.Context, cmd_name: str) -> click.Command | None:
        """The command of a room, which is imported now."""
        room = COMMANDS.get(cmd_name)
        if room is None:
            return None
        command: click.Command = importlib.import_module(room.module).command
        return command

    def resolve_command(
        self, context: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that is meant; a usage error that names the nearest where there is none."""
        if args[0] not in COMMANDS and not args[0].startswith("-"):
            from difflib import get_close_matches

            near = get_close_matches(args[0], COMMANDS, 1)
            meant = f" Did you mean {near[0]!r}?" if near else ""
            raise click.UsageError(f"There is no command {args[0]!r:.40}.{meant}", context)
        return super().resolve_command(context, args)

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        """The table of commands, without importing one."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, room.summary) for name, room in COMMANDS.items()])

    def shell_complete(self, context: click.Context, incomplete: str) -> list[Any]:
        """The names that begin like this, without importing a command."""
        from click.shell_completion import CompletionItem

        begun = [
            CompletionItem(name, help=room.summary)
            for name, room in COMMANDS.items()
            if name.startswith(incomplete)
        ]
        return begun + click.Command.shell_complete(self, context, incomplete)

    def invoke(self, context: click.Context) -> Any:
        """Run the command; Ctrl-C and a reader that went away end it quietly."""
        try:
            result = super().invoke(context)
            sys.stdout.flush()
        except KeyboardInterrupt:
            context.exit(INTERRUPTED)
        except BrokenPipeError:
            _write_no_more()
            context.exit(BROKEN_PIPE)
        return result

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> NoReturn:
        """Be the process: it ends with the exit code of the command or of its error."""
        words = list(sys.argv[1:] if args is None else args)
        try:
            code = super().main(words, "zbus", complete_var, standalone_mode=False, **extra)
        except click.Abort:
            code = INTERRUPTED
        except Exception as error:  # noqa: BLE001 - whatever it is, it is reported here, once
            code = report(error, as_json="--json" in words, debug="--debug" in words)
        sys.exit(code if isinstance(code, int) else 0)


def versions() -> dict[str, str]:
    """Of zbus and of what it stands on; "unknown" for what is not installed."""
    import importlib.metadata

    found = {}
    for name in ("zbus-broker", "pyzmq", "msgpack"):
        try:
            found[name.removesuffix("-broker")] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name.removesuffix("-broker")] = "unknown"
    found["libzmq"] = importlib.import_module("zmq").zmq_version()
    return {name: found[name] for name in ("zbus", "pyzmq", "libzmq", "msgpack")}


def _print_versions(context: click.Context, param: click.Parameter, wanted: bool) -> None:
    if wanted and not context.resilient_parsing:
        click.echo(", ".join(f"{name} {version}" for name, version in versions().items()))
        context.exit()


def _write_no_more() -> None:
    """What is still in a buffer must not raise again while the interpreter ends."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for descriptor in (1, 2):
        os.dup2(nowhere, descriptor)
    os.close(nowhere)


@click.command(
    cls=Root,
    example=_EXAMPLE,
    epilog=_COMPLETION,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_versions,
    help="Print the versions of zbus and of what it stands on.",
)
def root() -> None:
    """A message bus over ZeroMQ: every request ends once, on time, and says whether it ran.

    Each command tells more with --help, and prints JSON with --json. `zbus explain` lists every
    error and exit code.
    """


def main() -> NoReturn:
    """The program ``zbus``."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            # A reply may hold what the terminal's encoding does not.
            reconfigure(errors="backslashreplace")
    root.main()
