"""An engine of another job that goes astray: its handler heeds neither deadline nor signal.

It is there to be aborted. The engine itself still answers, so a polite request may be enough; and
where that is not so, its parent has other means.
"""

from __future__ import annotations

import sys
import threading
from pathlib import Path

from zbus.demo.ledger import Ledger
from zbus.demo.plan import SPIN, STRAY, STRAY_JOB, Place
from zbus.demo.witness import Witness, WitnessedClient
from zbus.engine.component import FLComponent
from zbus.engine.constants import EventType
from zbus.engine.context import FLContext
from zbus.engine.job_engine import Equipment
from zbus.engine.shareable import Shareable

__all__ = ["Stray", "main"]

_DRAIN_S = 0.25
"""Time for the reply that confirms the abort. The handler would not use more, either."""


class Stray(FLComponent):
    """A handler that never returns, and the end of the run for whoever waits for that."""

    def __init__(self) -> None:
        super().__init__()
        self.is_over = threading.Event()
        self.never = threading.Event()
        """Nobody sets it."""
        self.spins = 0
        """Handlers that run."""

    def handle_event(self, event_type: str, fl_ctx: FLContext) -> None:
        """Serve from the start of the run."""
        if event_type == EventType.START_RUN:
            fl_ctx.get_engine().register_aux_message_handler(SPIN, self.spin)
        elif event_type == EventType.END_RUN:
            self.is_over.set()

    def spin(self, topic: str, request: Shareable, fl_ctx: FLContext) -> Shareable:
        """Never return."""
        self.spins += 1
        self.never.wait()
        return Shareable()


def main(words: list[str]) -> None:
    """Be the stray engine of the plan at ``PLACE``, until its job is aborted."""
    stray = Stray()
    engine = WitnessedClient(
        Witness(Ledger(Place(Path(words[0])).ledger(STRAY))),
        STRAY,
        STRAY_JOB,
        equipment=Equipment(components={"stray": stray}),
    )
    engine.start_run()
    stray.is_over.wait()
    engine.end_run()  # which somebody else is doing: wait for it
    engine.close(drain=_DRAIN_S)


if __name__ == "__main__":
    main(sys.argv[1:])
