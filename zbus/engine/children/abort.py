"""An engine ended on request: asked first, then told, then killed, and which of them it took.

Rules:

* Three steps, each with its own grace: the owner's cooperative request, SIGTERM to the process
  group, SIGKILL to it. A step that works ends the abort at once.
* The request runs in a thread of its own, so that one that hangs costs its grace and no more. One
  that fails costs nothing: SIGTERM follows at once.
* An engine that is stopped (SIGSTOP) is continued with SIGTERM, so that it can heed it.
* Nothing is reported as ended that is still there: that raises.
"""

from __future__ import annotations

import enum
import math
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from zbus.engine.children.child import Child, Ending
from zbus.errors import ChildFailed

__all__ = ["Abort", "Ask", "Graces", "Step", "abort"]

Ask: TypeAlias = Callable[[float], object]
"""The cooperative request. Given its grace in seconds; whatever it returns means asked."""


class Step(enum.StrEnum):
    """What it took."""

    NOTHING = "nothing"
    """It had ended before."""
    ASKED = "asked"
    TERMINATED = "terminated"
    KILLED = "killed"


@dataclass(frozen=True, slots=True)
class Graces:
    """How long each step may take, in seconds; 0 leaves out the request or SIGTERM."""

    ask_s: float = 5.0
    terminate_s: float = 5.0
    kill_s: float = 5.0

    def __post_init__(self) -> None:
        for grace in (self.ask_s, self.terminate_s, self.kill_s):
            if not 0.0 <= grace < math.inf:
                raise ValueError(f"{grace} is no grace in seconds")


@dataclass(frozen=True, slots=True)
class Abort:
    """A confirmed end. ``refusal`` says what the cooperative request raised; empty for nothing."""

    name: str
    job: str
    step: Step
    ending: Ending
    took_ms: float
    refusal: str = ""

    def __str__(self) -> str:
        return f"{self.name} {self.step} in {self.took_ms:.0f} ms: {self.ending}"


def abort(child: Child, ask: Ask | None, graces: Graces) -> tuple[Step, Ending, str]:
    """End a child: the step that it took, how the child ended, and why it was not to be asked.

    Raises:
        ChildFailed: it is there after all three graces.
    """
    if not child.is_alive and child.ending is not None:
        return Step.NOTHING, child.ending, ""
    refusal = ""
    if ask is not None and graces.ask_s:
        ending, refusal = _ask(child, ask, graces.ask_s)
        if ending is not None:
            return Step.ASKED, ending, refusal
    if graces.terminate_s:
        child.signal(signal.SIGTERM)
        child.signal(signal.SIGCONT)
        if (ending := child.wait(graces.terminate_s)) is not None:
            return Step.TERMINATED, ending, refusal
    return Step.KILLED, _kill(child, graces.kill_s), refusal


def _ask(child: Child, ask: Ask, grace_s: float) -> tuple[Ending | None, str]:
    refusals: list[str] = []
    failed = threading.Event()

    def run() -> None:
        try:
            ask(grace_s)
        except Exception as error:  # noqa: BLE001 - the owner's; the report names it
            refusals.append(f"{type(error).__name__}: {error}")
            failed.set()

    threading.Thread(target=run, name=f"zbus-abort-{child.pid}", daemon=True).start()
    deadline = time.monotonic() + grace_s
    ending = None
    while ending is None and not failed.is_set() and time.monotonic() < deadline:
        ending = child.wait(min(0.01, max(deadline - time.monotonic(), 0.0)))
    return ending, "".join(refusals)


def _kill(child: Child, grace_s: float) -> Ending:
    child.signal(signal.SIGKILL)
    if (ending := child.wait(grace_s / 2)) is not None:
        return ending
    # The guard is stopped, or waits for what cannot be killed.
    child.kill_guard()
    if (ending := child.wait(grace_s / 2)) is not None:
        return ending
    raise ChildFailed(f"process {child.pid} is still there {grace_s:g} s after SIGKILL")
