"""An engine of the demo: learns from digits that only it has, and sends what it learned.

The training is a component as FLARE has them: it hears that the run starts, serves a topic, and
asks the server through ``fl_ctx.get_engine()``. Two threads ask: one trains, the other reports at
a steady rate, whatever the first one does and however long a reply takes. That is the load under
which the broker is killed.
"""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path
from typing import Any

from zbus.demo.digits import Shard, load
from zbus.demo.ledger import Ledger
from zbus.demo.model import Model, Score, batches, score, step
from zbus.demo.plan import JOB, REQUEST_S, Place, Plan
from zbus.demo.witness import Witness, WitnessedClient
from zbus.engine.component import FLComponent
from zbus.engine.constants import EventType, ReservedHeaderKey, ReturnCode
from zbus.engine.context import FLContext
from zbus.engine.job_engine import Equipment
from zbus.engine.shareable import Shareable

__all__ = ["TrainingExecutor", "main"]

_PASSES = 2
"""How often an engine goes through its digits in a round."""
_ROOM_S = 0.01
"""When to look again whether there is room for another metric."""


class TrainingExecutor(FLComponent):
    """The training of one engine. ``execute`` takes part in every round; ``model.score`` tells
    the server how good a model is on the engine's own digits."""

    def __init__(self, plan: Plan, name: str, shard: Shard) -> None:
        super().__init__()
        self._plan = plan
        self._number = plan.names.index(name)
        self._raises_in = plan.raises_in if name == plan.raiser else None
        self._shard = shard
        self._round = 0
        self._step = 0
        self._told = 0
        self._unwanted = 0
        self._ended = threading.Event()

    def handle_event(self, event_type: str, fl_ctx: FLContext) -> None:
        """Serve ``model.score`` from the start of the run."""
        if event_type == EventType.START_RUN:
            fl_ctx.get_engine().register_aux_message_handler("model.score", self.score_here)

    def score_here(self, topic: str, request: Shareable, fl_ctx: FLContext) -> Shareable:
        """The handler of ``model.score``, which misbehaves in one round, or in none."""
        if request["round"] == self._raises_in:
            raise RuntimeError(f"planted by the demo in round {self._raises_in}")
        return Shareable({"accuracy": score(request["model"], self._shard).accuracy})

    def execute(self, fl_ctx: FLContext) -> None:
        """Take part in every round, until the server says that it was the last.

        Raises:
            RuntimeError: a request ended with another return code than OK.
        """
        reports = threading.Thread(
            target=self._report, args=(fl_ctx.get_engine().new_context(),), name="reports"
        )
        reports.start()
        try:
            while self._next_round(fl_ctx):
                pass
        finally:
            self._ended.set()
            reports.join()

    def _next_round(self, fl_ctx: FLContext) -> bool:
        number = self._round + 1
        reply = _ask(fl_ctx, "model.pull", {"round": number})
        if "model" in reply:
            self._round, self._step = number, 0
            model = self._learn(reply["model"], fl_ctx)
            samples = len(self._shard.labels)
            _ask(fl_ctx, "model.submit", {"round": number, "samples": samples, "model": model})
        return "end" not in reply

    def _learn(self, model: Model, fl_ctx: FLContext) -> Model:
        seed = (self._plan.seed, self._number, self._round)
        for batch in batches(self._shard, _PASSES, seed):
            if self._unwanted >= self._round:
                break
            model, before = step(model, batch)
            self._step += 1
            self._tell(before, fl_ctx)
        return model

    def _tell(self, before: Score, fl_ctx: FLContext) -> None:
        """Tell the server of a step, once there is room for that."""
        self._told += 1
        metrics = Shareable({"number": self._told, **before._asdict()})
        engine = fl_ctx.get_engine()
        while True:
            accepted = engine.fire_and_forget_aux_request(
                topic="metrics.step", request=metrics, fl_ctx=fl_ctx
            )
            if accepted.get_return_code() != ReturnCode.SERVER_NOT_READY:
                return _check("metrics.step", accepted)
            self._ended.wait(_ROOM_S)

    def _report(self, fl_ctx: FLContext) -> None:
        due = time.monotonic()
        while not self._ended.wait(max(0.0, due - time.monotonic())):
            due = max(due + self._plan.report_s, time.monotonic())
            number = self._round
            reply = _ask(fl_ctx, "train.report", {"round": number, "step": self._step})
            if not reply["go_on"]:
                self._unwanted = max(self._unwanted, number)


def _ask(fl_ctx: FLContext, topic: str, content: dict[str, Any]) -> Shareable:
    """The server's reply."""
    reply: Shareable = fl_ctx.get_engine().send_aux_request(
        topic=topic, request=Shareable(content), timeout=REQUEST_S, fl_ctx=fl_ctx
    )
    _check(topic, reply)
    return reply


def _check(topic: str, reply: Shareable) -> None:
    code = reply.get_return_code()
    if code != ReturnCode.OK:
        raise RuntimeError(
            f"{topic} ended with {code}: {reply.get_header(ReservedHeaderKey.ERROR)}"
        )


def main(words: list[str]) -> None:
    """Be the engine ``NAME`` of the plan at ``PLACE``, until the training ends."""
    place, name = Place(Path(words[0])), words[1]
    executor = TrainingExecutor(place.plan(), name, load(place.shard(name)))
    engine = WitnessedClient(
        Witness(Ledger(place.ledger(name))),
        name,
        JOB,
        equipment=Equipment(components={"executor": executor}),
    )
    engine.start_run()
    executor.execute(engine.new_context())
    sys.exit(not engine.leave())


if __name__ == "__main__":
    main(sys.argv[1:])
