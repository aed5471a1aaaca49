"""The network that reads digits: zbus/demo/model.py."""

from __future__ import annotations

import itertools
import math

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zbus.demo.digits import Shard
from zbus.demo.model import Model, average, batches, first, score, step


def some(count: int = 40, seed: int = 1) -> Shard:
    """Random images with random labels."""
    dice = numpy.random.default_rng(seed)
    return Shard(dice.random((count, 64), numpy.float32), dice.integers(0, 10, count, numpy.int64))


def precise(model: Model) -> Model:
    """The same model in doubles, so that differences mean something."""
    return {name: weights.astype(numpy.float64) for name, weights in model.items()}


def locked(model: Model) -> Model:
    """As it comes over the bus: it cannot be written to."""
    for weights in model.values():
        weights.flags.writeable = False
    return model


@pytest.mark.parametrize("name", ["w1", "b1", "w2", "b2"])
def test_a_step_goes_down_the_slope(name: str) -> None:
    """A step is the rate times the slope of the loss, which differences give, too."""
    model, shard, tiny = precise(first(2)), some(), 1e-6
    stepped, _ = step(model, shard)
    moved = (model[name] - stepped[name]).ravel()
    slopes = []
    for place in numpy.argsort(-numpy.abs(moved))[:5]:
        bent = {key: weights.copy() for key, weights in model.items()}
        bent[name].ravel()[place] += tiny
        slope = (score(bent, shard).loss - score(model, shard).loss) / tiny
        slopes.append(moved[place] / slope)
    assert slopes == pytest.approx([0.05] * 5, rel=1e-3)


def test_steps_make_it_better() -> None:
    """It learns what it is shown, by heart if need be."""
    model, shard = first(0), some()
    before = score(model, shard)
    for batch in batches(shard, 200, [1]):
        model, _ = step(model, batch)
    assert score(model, shard).loss < before.loss / 2
    assert score(model, shard).accuracy > 0.9


def test_nothing_given_is_changed() -> None:
    """Arrays that came over the bus are read-only, and those sent must stay as they are."""
    model, shard = locked(first(0)), some()
    copies = {name: weights.copy() for name, weights in model.items()}
    stepped, told = step(model, shard)
    assert told == score(model, shard)
    average([(1, model), (2, stepped)])
    assert all((model[name] == copies[name]).all() for name in model)
    assert all((stepped[name] != model[name]).any() for name in model)


@given(st.lists(st.tuples(st.integers(1, 500), st.integers(0, 9)), min_size=1, max_size=8))
def test_an_average_weighs_by_samples(updates: list[tuple[int, int]]) -> None:
    """As the sum over all digits would be, had they been in one place."""
    ones = {name: numpy.ones_like(weights) for name, weights in first(0).items()}
    models = [
        (samples, {name: weights * numpy.float32(value) for name, weights in ones.items()})
        for samples, value in updates
    ]
    whole = sum(samples for samples, _ in updates)
    wanted = sum(samples * value for samples, value in updates) / whole
    for weights in average(models).values():
        assert weights.dtype == numpy.float32
        assert weights == pytest.approx(wanted, abs=1e-5)


def test_a_model_that_knows_nothing_is_no_better_than_chance() -> None:
    """Its loss is about that of ten equal chances."""
    told = score(first(0), some(2_000))
    assert told.loss == pytest.approx(math.log(10), abs=0.3)
    assert told.accuracy < 0.2


@given(st.integers(1, 100), st.integers(1, 3))
def test_batches_show_each_digit_once_a_pass(count: int, passes: int) -> None:
    """Small pieces, shuffled, the same ones for the same seed."""
    shard = Shard(numpy.zeros((count, 64), numpy.float32), numpy.arange(count))
    seen = [batch.labels.tolist() for batch in batches(shard, passes, [1, 2])]
    assert max(map(len, seen)) <= 16
    assert sorted(itertools.chain(*seen)) == sorted([*range(count)] * passes)
    assert seen == [batch.labels.tolist() for batch in batches(shard, passes, [1, 2])]
