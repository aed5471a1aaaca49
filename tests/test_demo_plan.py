"""What all processes of a demo know: zbus/demo/plan.py."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zbus.demo.plan import BROKER, ENGINES_MAX, HELD_OUT, SERVER, STORY, STRAY, Place, Plan
from zbus.protocol.topics import check_name

plans = st.builds(
    Plan,
    engines=st.integers(1, ENGINES_MAX),
    rounds=st.integers(2, 1_000),
    pace_s=st.floats(0, 10),
    seed=st.integers(0, 1 << 30),
)


@given(plans)
def test_what_is_planned_happens_before_the_end(plan: Plan) -> None:
    """A handler raises, the broker is killed, a job is aborted, in this order; rounds follow."""
    assert 1 <= plan.raises_in <= plan.kill_after <= plan.abort_after < plan.rounds


@given(plans)
def test_every_part_has_a_name_of_its_own(plan: Plan) -> None:
    """Names are different, and the bus takes them."""
    names = [*plan.names, BROKER, SERVER, STORY, STRAY, HELD_OUT]
    assert len(set(names)) == len(names) == plan.engines + 5
    assert [check_name(name) for name in names] == names
    assert plan.raiser in plan.names


@given(plan=plans)
def test_a_plan_is_read_as_it_was_written(
    tmp_path_factory: pytest.TempPathFactory, plan: Plan
) -> None:
    """Every process has the same plan."""
    place = Place(tmp_path_factory.mktemp("place"))
    place.write(plan)
    assert place.plan() == plan


def test_files_of_a_place_are_different(tmp_path: Path) -> None:
    """No part writes where another does."""
    place = Place(tmp_path)
    files = [
        path
        for name in (*Plan().names, BROKER, SERVER, STORY, STRAY)
        for path in (place.shard(name), place.ledger(name), place.log(name))
    ]
    assert len(set(files)) == len(files)
    assert {path.parent for path in files} == {tmp_path}
