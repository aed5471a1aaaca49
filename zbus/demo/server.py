"""The server of the demo: averages what the engines learn, and judges it on digits held out.

    model.pull     {"round"}                      -> {"model"}, {"end"}, or {} for "ask again"
    model.submit   {"round", "samples", "model"}  -> {"useful"}
    train.report   {"round", "step"}              -> {"go_on"}
    train.watch    {"seen"}                       -> {"over", "end", "waits_for"}
    metrics.step   told and forgotten: {"number", "loss", "accuracy"}

All of these are Shareables. After each round it asks every engine for ``model.score``: how good
the new model is on digits that only that engine has.
"""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from zbus.demo.digits import load
from zbus.demo.ledger import Kind, Ledger
from zbus.demo.model import Model
from zbus.demo.parts import end_with_parent
from zbus.demo.plan import HELD_OUT, JOB, REQUEST_S, SERVER, Place, Plan
from zbus.demo.training import Training
from zbus.demo.witness import Witness, WitnessedServer
from zbus.engine.component import FLComponent
from zbus.engine.constants import EventType, ReservedHeaderKey, ReservedKey, ReturnCode
from zbus.engine.context import FLContext
from zbus.engine.job_engine import Equipment
from zbus.engine.shareable import Shareable, make_reply

__all__ = ["Averager", "main", "score_everywhere", "train"]

_OVER = "all rounds are over"
_TOLD = {signal.SIGTERM}


class Averager(FLComponent):
    """Serves what engines and story ask of a training."""

    def __init__(self, training: Training, ledger: Ledger) -> None:
        super().__init__()
        self._training = training
        self._ledger = ledger

    def handle_event(self, event_type: str, fl_ctx: FLContext) -> None:
        """Serve every topic from the start of the run."""
        if event_type == EventType.START_RUN:
            for topic, handler in self.handlers().items():
                fl_ctx.get_engine().register_aux_message_handler(topic, handler)

    def handlers(self) -> dict[str, Callable[..., Shareable]]:
        """What is done for each topic."""
        return {
            "model.pull": self._pull,
            "model.submit": self._submit,
            "train.report": self._report,
            "train.watch": self._watch,
            "metrics.step": self._take,
        }

    def _pull(self, topic: str, request: Shareable, fl_ctx: FLContext) -> Shareable:
        return Shareable(self._training.pull(request))

    def _submit(self, topic: str, request: Shareable, fl_ctx: FLContext) -> Shareable:
        return Shareable({"useful": self._training.submit(_sender(request), request)})

    def _report(self, topic: str, request: Shareable, fl_ctx: FLContext) -> Shareable:
        return Shareable({"go_on": self._training.report(_sender(request), request)})

    def _watch(self, topic: str, request: Shareable, fl_ctx: FLContext) -> Shareable:
        return Shareable(self._training.watch(request))

    def _take(self, topic: str, request: Shareable, fl_ctx: FLContext) -> Shareable:
        self._ledger.note(Kind.TOOK, _sender(request), request["number"])
        self._training.taken[_sender(request)] += 1
        return make_reply(ReturnCode.OK)


def train(training: Training, plan: Plan, fl_ctx: FLContext) -> None:
    """Round after round."""
    try:
        for number in range(1, plan.rounds + 1):
            opened = time.monotonic()
            training.open(number)
            model = training.collect(REQUEST_S)
            training.conclude(*score_everywhere(fl_ctx, plan.names, number, model))
            time.sleep(max(0.0, opened + plan.pace_s - time.monotonic()))
        training.end(_OVER)
    except Exception as error:
        training.end(f"{type(error).__name__}: {error}")
        raise


def score_everywhere(
    fl_ctx: FLContext, names: tuple[str, ...], number: int, model: Model
) -> tuple[dict[str, float], dict[str, str]]:
    """What each engine says of the model, and the return code of each that does not."""
    replies: dict[str, Shareable] = fl_ctx.get_engine().send_aux_request(
        targets=list(names),
        topic="model.score",
        request=Shareable({"round": number, "model": model}),
        timeout=REQUEST_S,
        fl_ctx=fl_ctx,
    )
    accuracies, faults = {}, {}
    for name, reply in replies.items():
        code = reply.get_return_code()
        if code == ReturnCode.OK:
            accuracies[name] = reply["accuracy"]
        else:
            faults[name] = f"{code}, {reply.get_header(ReservedHeaderKey.ERROR)}"
    return accuracies, faults


def main(words: list[str]) -> None:
    """Be the server of the plan at ``PLACE``, until SIGTERM."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _TOLD)  # before there are threads
    end_with_parent()
    place = Place(Path(words[0]))
    plan, ledger = place.plan(), Ledger(place.ledger(SERVER))
    training = Training(plan, load(place.shard(HELD_OUT)))
    engine = WitnessedServer(
        Witness(ledger),
        JOB,
        plan.names,
        equipment=Equipment(components={"averager": Averager(training, ledger)}),
    )
    engine.start_run()
    arguments: tuple[Any, ...] = (training, plan, engine.new_context())
    threading.Thread(target=train, args=arguments, daemon=True).start()
    signal.sigwait(_TOLD)
    sys.exit(not engine.leave())


def _sender(request: Shareable) -> str:
    """The site that asks; the broker vouches for it."""
    name: str = request.get_peer_prop(ReservedKey.IDENTITY_NAME, "")
    return name


if __name__ == "__main__":
    main(sys.argv[1:])
