"""The digits and their shards: zbus/demo/digits.py."""

from __future__ import annotations

from pathlib import Path

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zbus.demo.digits import Shard, load, main, split, write
from zbus.demo.plan import ENGINES_MAX, HELD_OUT, Place, Plan


def numbered(count: int) -> Shard:
    """Digits that can be told apart: each pixel is the digit's number."""
    numbers = numpy.arange(count)
    return Shard(numpy.repeat(numbers, 64).reshape(-1, 64).astype(numpy.float32), numbers % 10)


@given(st.integers(100, 2_000), st.integers(1, ENGINES_MAX), st.integers(0, 1 << 30))
def test_each_digit_is_in_one_shard(count: int, engines: int, seed: int) -> None:
    """No engine has a digit of another or one that is held out, and none is lost."""
    shards = split(numbered(count), Plan(engines=engines, seed=seed))
    numbers = [int(image[0]) for shard in shards.values() for image in shard.images]
    assert sorted(numbers) == [*range(count)]
    assert set(shards) == {HELD_OUT, *Plan(engines=engines).names}
    assert len(shards[HELD_OUT].labels) == count // 5
    for shard in shards.values():
        assert (shard.labels == shard.images[:, 0].astype(int) % 10).all()


def test_shards_are_of_nearly_equal_size_and_the_same_each_time() -> None:
    """A run can be repeated; another seed gives other shards."""
    one, again, other = (split(numbered(1_797), Plan(seed=seed)) for seed in (3, 3, 4))
    sizes = {len(one[name].labels) for name in Plan().names}
    assert max(sizes) - min(sizes) <= 1
    for name, shard in one.items():
        assert (shard.images == again[name].images).all()
        assert (shard.images != other[name].images).any()


def test_a_shard_is_read_as_it_was_written(tmp_path: Path) -> None:
    """Images and labels, with their types."""
    shard = numbered(10)
    write(tmp_path / "shard.npz", shard)
    images, labels = load(tmp_path / "shard.npz")
    assert (images == shard.images).all()
    assert (labels == shard.labels).all()
    assert (images.dtype, labels.dtype) == (shard.images.dtype, shard.labels.dtype)


@pytest.mark.slow
def test_the_digits_are_the_real_ones(tmp_path: Path) -> None:
    """All 1,797, each of 64 pixels from 0 to 1, and all ten of them in every shard."""
    place = Place(tmp_path)
    place.write(Plan())
    main([str(tmp_path)])
    shards = [load(place.shard(name)) for name in (*Plan().names, HELD_OUT)]
    assert sum(len(shard.labels) for shard in shards) == 1_797
    for shard in shards:
        assert shard.images.shape == (len(shard.labels), 64)
        assert 0 == shard.images.min() < shard.images.max() == 1
        assert {*shard.labels.tolist()} == {*range(10)}
