"""`zbus demo`: the main job on real input, with the broker killed and a job aborted.

Rules of this room:

* It draws what ``zbus.demo.story`` tells: a live table on a terminal, a line an event everywhere
  else, an object an event with ``--json``.
* rich is imported for a terminal only.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import click

from zbus.cli.options import CommandOptions, ExampleFirst, command_options, gathered
from zbus.cli.output import is_terminal, print_json, print_text, printable
from zbus.demo.cast import DemoFailed
from zbus.demo.events import (
    Aborted,
    BrokerBack,
    BrokerKilled,
    Check,
    Event,
    Latency,
    RoundOver,
    Started,
)
from zbus.demo.plan import ENGINES_MAX, Plan
from zbus.demo.story import live, missing

__all__ = ["command", "words_of"]

_EVENTS = {
    Aborted: "aborted",
    BrokerBack: "broker_back",
    BrokerKilled: "broker_killed",
    Check: "check",
    Latency: "latency",
    RoundOver: "round",
    Started: "started",
}
_ROUNDS_MAX = 1_000
_FAILED = 1
_BAR = 20
_MARK = 6
_STYLES = {Aborted: "yellow", BrokerBack: "green", BrokerKilled: "bold yellow"}
_Tell = Callable[[Event], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Options(CommandOptions):
    rounds: int
    engines: int
    keep: Path | None
    fast: bool


class _Unusable(click.ClickException):
    """The demo cannot even begin, and it is not its fault."""

    exit_code = 2


@click.command(
    "demo", cls=ExampleFirst, example=("zbus demo", "zbus demo --rounds 30 --keep demo-files")
)
@click.option(
    "--rounds",
    type=click.IntRange(2, _ROUNDS_MAX),
    default=Plan.rounds,
    show_default=True,
    help="Rounds of training. With much fewer the model is not good enough in the end.",
)
@click.option(
    "--engines",
    type=click.IntRange(1, ENGINES_MAX),
    default=Plan.engines,
    show_default=True,
    help="Engines, each a process with digits of its own.",
)
@click.option(
    "--keep",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Leave the ledgers and logs of all processes there; empty or new.",
)
@click.option(
    "--fast",
    is_flag=True,
    help=f"Do not give each round {Plan.pace_s:g} s, which are there for people to follow.",
)
@command_options
@gathered(_Options)
def command(options: _Options) -> int:
    """Train a model over a bus whose broker is killed half way.

    Starts a broker, a server and engines as processes over ipc in a temporary directory. They
    learn to read the digits that scikit-learn ships: weights travel as arrays in
    send_aux_request, metrics in fire_and_forget_aux_request. Half way the broker is killed with
    SIGKILL and started again, and one handler raises; nobody repeats anything by hand. Another
    job, whose handler never returns, is aborted. Then the ledgers that all processes kept are
    checked.

    Exit code 0 if every check holds, else 1.
    """
    plan = _plan(options)
    with _teller(options.as_json, plan) as tell:
        try:
            kept = live(plan, tell, options.keep and options.keep.resolve())
        except DemoFailed as error:
            return _failed(str(error), options)
    if not options.as_json and kept:
        print_text(_next_commands())
    return 0 if kept else _FAILED


def _plan(options: _Options) -> Plan:
    if absent := missing():
        raise _Unusable(
            f"the demo needs {' and '.join(absent)}, which this Python does not have."
            ' Install them with: pip install "zbus-broker[demo]"'
        )
    if options.keep is not None and options.keep.exists() and any(options.keep.iterdir()):
        raise click.UsageError(f"--keep {options.keep}: the directory is not empty.")
    pace_s = 0.0 if options.fast else Plan.pace_s
    return Plan(engines=options.engines, rounds=options.rounds, pace_s=pace_s)


def _failed(why: str, options: _Options) -> int:
    if options.as_json:
        click.echo(json.dumps({"event": "failed", "message": why}), err=True)
    else:
        click.echo(f"zbus: the demo failed: {printable(why, sys.stderr)}", err=True)
    return _FAILED


# -- drawing -----------------------------------------------------------------------------------


@contextmanager
def _teller(as_json: bool, plan: Plan) -> Iterator[_Tell]:
    """What draws an event, while this lasts."""
    if as_json:
        yield lambda event: print_json({"event": _EVENTS[type(event)], **asdict(event)})
    elif is_terminal(sys.stdout):
        with _live_teller(plan) as tell:
            yield tell
    else:
        yield lambda event: print_text(words_of(event, plan))


@contextmanager
def _live_teller(plan: Plan) -> Iterator[_Tell]:
    """Lines that stay, above one that says what is going on."""
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False)
    with console.status("starting the processes") as status:

        def tell(event: Event) -> None:
            line = Text(printable(words_of(event, plan), sys.stdout), _STYLES.get(type(event), ""))
            if isinstance(event, RoundOver):
                line.append(f"  {_bar(event.accuracy)}", "cyan")
            elif isinstance(event, Check):
                line.stylize("bold green" if event.kept else "bold red", 0, _MARK)
            console.print(line)
            status.update(_what_goes_on(event, plan))

        yield tell


def _bar(share: float) -> str:
    full = round(share * _BAR)
    return "\N{FULL BLOCK}" * full + "\N{LIGHT SHADE}" * (_BAR - full)


def _what_goes_on(event: Event, plan: Plan) -> str:
    if isinstance(event, BrokerKilled):
        return "the broker is gone; requests wait for the next one"
    if isinstance(event, RoundOver) and event.number < plan.rounds:
        return f"{plan.engines} engines train for round {event.number + 1} of {plan.rounds}"
    return (
        "training" if isinstance(event, Aborted | BrokerBack | Started) else "checking the ledgers"
    )


def words_of(event: Event, plan: Plan) -> str:
    """The event in a line or two."""
    match event:
        case Started():
            parts = ", ".join(f"{name} {pid}" for name, pid in event.pids.items())
            return (
                f"{len(event.pids)} processes over ipc in {event.runtime_dir},"
                f" started in {event.took_s:.1f} s: {parts}"
            )
        case RoundOver():
            return _round_words(event, plan)
        case BrokerKilled():
            return (
                f"broker {event.pid} killed with SIGKILL while requests are under way;"
                f" broker {event.successor} starts in its place"
            )
        case BrokerBack():
            return f"a reply after {event.after_ms:,.0f} ms; the training goes on by itself"
        case Aborted():
            return (
                f"job {event.job}: its handler has not answered; process {event.pid} is gone"
                f" {event.took_ms:,.0f} ms after the abort ({event.step}, {event.ending})"
            )
        case Check():
            mark = "ok" if event.kept else "FAILED"
            return f"{mark:{_MARK}} {event.promise}: {event.found}"
        case Latency():
            return (
                f"latency of {event.requests:,} requests while training: p50 {event.p50_ms:.2f} ms,"
                f" p99 {event.p99_ms:.2f} ms; {event.waited:,} more met the restart"
            )


def _round_words(over: RoundOver, plan: Plan) -> str:
    width = len(str(plan.rounds))
    line = (
        f"round {over.number:{width}}/{plan.rounds}  accuracy {over.accuracy:.3f}"
        f"  loss {over.loss:.3f}  {over.metrics:6,} metrics"
    )
    return "\n".join([*(f"{name}: {text}" for name, text in over.faults.items()), line])


def _next_commands() -> str:
    zbus = "zbus" if shutil.which("zbus") else f"{shlex.quote(_python())} -m zbus"
    return (
        f"Next:  {zbus} broker\n"
        f"       {zbus} serve echo --echo    # in another terminal\n"
        f"       {zbus} req echo hi          # in a third"
    )


def _python() -> str:
    """This Python, as it is typed from here."""
    path = os.path.relpath(sys.executable)
    return sys.executable if path.startswith("..") else path
