"""The server of the demo: averages what the engines learn, and judges it on digits held out.

    model.pull     {"round"}                      -> {"model"}, {"end"}, or {} for "ask again"
    model.submit   {"round", "samples", "model"}  -> whether it was of use
    train.report   {"round", "step"}              -> whether to go on
    train.watch    {"seen"}                       -> {"over", "end", "waits_for"}
    metrics.step   a push: {"number", "loss", "accuracy"}

After each round it asks every engine by name for ``model.score``: how good the new model is on
digits that only that engine has.
"""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import zbus
from zbus.demo.digits import load
from zbus.demo.ledger import Kind, Ledger
from zbus.demo.model import Model
from zbus.demo.parts import end_with_parent
from zbus.demo.plan import HELD_OUT, REQUEST_S, SERVER, Place, Plan
from zbus.demo.training import Training
from zbus.demo.witness import Witness, witnessed

__all__ = ["handlers", "main", "score_everywhere", "train"]

_OVER = "all rounds are over"
_TOLD = {signal.SIGTERM}


def handlers(training: Training, ledger: Ledger) -> dict[str, Callable[..., Any]]:
    """What the server does for each topic."""

    def pull(body: Any, request: zbus.Incoming) -> Any:
        return training.pull(body)

    def submit(body: Any, request: zbus.Incoming) -> Any:
        return training.submit(request.source, body)

    def report(body: Any, request: zbus.Incoming) -> Any:
        return training.report(request.source, body)

    def watch(body: Any, request: zbus.Incoming) -> Any:
        return training.watch(body)

    def take(body: Any, request: zbus.Incoming) -> None:
        ledger.note(Kind.TOOK, request.source, body["number"])
        training.taken[request.source] += 1

    return {
        "model.pull": pull,
        "model.submit": submit,
        "train.report": report,
        "train.watch": watch,
        "metrics.step": take,
    }


def train(training: Training, plan: Plan, witness: Witness) -> None:
    """Round after round."""
    try:
        for number in range(1, plan.rounds + 1):
            opened = time.monotonic()
            training.open(number)
            model = training.collect(REQUEST_S)
            training.conclude(*score_everywhere(witness, plan.names, number, model))
            time.sleep(max(0.0, opened + plan.pace_s - time.monotonic()))
        training.end(_OVER)
    except Exception as error:
        training.end(f"{type(error).__name__}: {error}")
        raise


def score_everywhere(
    witness: Witness, names: tuple[str, ...], number: int, model: Model
) -> tuple[dict[str, float], dict[str, str]]:
    """What each engine says of the model, and the error of each that does not."""
    body = {"round": number, "model": model}
    asked: dict[str, Future[Any]] = {
        name: witness.submit("model.score", body, to=name) for name in names
    }
    accuracies, faults = {}, {}
    for name, future in asked.items():
        try:
            accuracies[name] = future.result()
        except zbus.RequestError as error:
            faults[name] = str(error)
    return accuracies, faults


def main(words: list[str]) -> None:
    """Be the server of the plan at ``PLACE``, until SIGTERM."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _TOLD)  # before there are threads
    end_with_parent()
    place = Place(Path(words[0]))
    plan = place.plan()
    training = Training(plan, load(place.shard(HELD_OUT)))
    ledger = Ledger(place.ledger(SERVER))
    peer = zbus.connect(
        name=SERVER,
        role="server",
        dispatcher=witnessed(ledger, handlers(training, ledger)),
        timeout=REQUEST_S,
        # Each engine waits for a round, and the story for news.
        limits=zbus.SessionLimits(handlers=plan.engines + 4),
    )
    witness = Witness(peer, ledger)
    threading.Thread(target=train, args=(training, plan, witness), daemon=True).start()
    signal.sigwait(_TOLD)
    sys.exit(not witness.close())


if __name__ == "__main__":
    main(sys.argv[1:])
