"""The model: a small network of 64 pixels, one hidden layer and 10 digits, in plain NumPy.

Nothing here changes a model: a step and an average give a new one. Arrays that came over the bus
are read-only, and those that were sent must stay as they are until the request has ended.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple, TypeAlias

import numpy

from zbus.demo.digits import Array, Shard

__all__ = ["Model", "Score", "average", "batches", "first", "score", "step"]

Model: TypeAlias = dict[str, Array]
"""The weights by name: w1 and b1 of the hidden layer, w2 and b2 of the last. It travels as it
is, as the body of a request."""
_PIXELS, _HIDDEN, _DIGITS = 64, 64, 10
_RATE = 0.05
_BATCH = 16
_LEAST = 1e-9


class Score(NamedTuple):
    """How good a model is on some digits."""

    loss: float
    accuracy: float


def first(seed: int) -> Model:
    """A model that knows nothing."""
    dice = numpy.random.default_rng(seed)
    return {
        "w1": _drawn(dice, _PIXELS, _HIDDEN),
        "b1": numpy.zeros(_HIDDEN, numpy.float32),
        "w2": _drawn(dice, _HIDDEN, _DIGITS),
        "b2": numpy.zeros(_DIGITS, numpy.float32),
    }


def step(model: Model, shard: Shard) -> tuple[Model, Score]:
    """A step of gradient descent on these digits, and how good the model was before it."""
    hidden, chances = _forward(model, shard.images)
    before = _judged(chances, shard)
    count = len(shard.labels)
    wrong = chances
    wrong[numpy.arange(count), shard.labels] -= 1
    wrong /= count
    back = (wrong @ model["w2"].T) * (hidden > 0)
    slopes = {
        "w1": shard.images.T @ back,
        "b1": back.sum(axis=0),
        "w2": hidden.T @ wrong,
        "b2": wrong.sum(axis=0),
    }
    return {name: weights - _RATE * slopes[name] for name, weights in model.items()}, before


def batches(shard: Shard, passes: int, seed: Sequence[int]) -> Iterator[Shard]:
    """The shard in small pieces, shuffled anew for each pass over it."""
    dice = numpy.random.default_rng(seed)
    for _ in range(passes):
        order = dice.permutation(len(shard.labels))
        for start in range(0, len(order), _BATCH):
            chosen = order[start : start + _BATCH]
            yield Shard(shard.images[chosen], shard.labels[chosen])


def average(updates: Sequence[tuple[int, Model]]) -> Model:
    """The mean of models, each weighed by the digits that it was trained on."""
    whole = sum(samples for samples, _ in updates)
    return {
        name: sum(
            (model[name] * numpy.float32(samples / whole) for samples, model in updates),
            start=numpy.zeros_like(weights),
        )
        for name, weights in updates[0][1].items()
    }


def score(model: Model, shard: Shard) -> Score:
    """How good the model is on these digits."""
    return _judged(_forward(model, shard.images)[1], shard)


def _forward(model: Model, images: Array) -> tuple[Array, Array]:
    hidden = numpy.maximum(images @ model["w1"] + model["b1"], 0)
    scores = hidden @ model["w2"] + model["b2"]
    powers = numpy.exp(scores - scores.max(axis=1, keepdims=True))
    return hidden, powers / powers.sum(axis=1, keepdims=True)


def _judged(chances: Array, shard: Shard) -> Score:
    right = chances[numpy.arange(len(shard.labels)), shard.labels]
    return Score(
        loss=float(-numpy.log(right + _LEAST).mean()),
        accuracy=float((chances.argmax(axis=1) == shard.labels).mean()),
    )


def _drawn(dice: numpy.random.Generator, height: int, width: int) -> Array:
    spread = numpy.sqrt(1 / height)
    drawn: Array = (dice.standard_normal((height, width)) * spread).astype(numpy.float32)
    return drawn
