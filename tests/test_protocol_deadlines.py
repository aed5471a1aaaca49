"""A table of instants: right at every step, and never larger than what it holds."""

from __future__ import annotations

from hypothesis import event, given
from hypothesis import strategies as st

from zbus.protocol.deadlines import Deadlines

KEYS = st.integers(0, 5)
TIMES = st.integers(0, 20).map(float)
STEPS = st.one_of(
    st.tuples(st.just("set"), KEYS, TIMES),
    st.tuples(st.just("remove"), KEYS, st.just(0.0)),
    st.tuples(st.just("due"), st.just(0), TIMES),
)


@given(st.lists(STEPS, max_size=60))
def test_it_agrees_with_a_plain_table(steps: list[tuple[str, int, float]]) -> None:
    """Whatever is set, moved, removed and asked for, in any order, it says what a dict would."""
    deadlines: Deadlines[int] = Deadlines()
    model: dict[int, float] = {}
    for verb, key, at in steps:
        if verb == "set":
            deadlines.set(key, at)
            model[key] = at
        elif verb == "remove":
            deadlines.remove(key)
            model.pop(key, None)
        else:
            due = deadlines.due(at)
            expected = {key for key, instant in model.items() if instant <= at}
            assert set(due) == expected
            assert len(due) == len(expected)
            assert [model[key] for key in due] == sorted(model[key] for key in due)
            for key in due:
                del model[key]
            event(f"{len(due)} due at once")
        assert len(deadlines) == len(model)
        assert all((key in deadlines) == (key in model) for key in range(6))
        assert deadlines.next_at() == min(model.values(), default=None)


def test_what_is_due_at_one_instant_comes_in_the_order_in_which_it_was_set() -> None:
    """Effects follow this order, so that a run repeats."""
    deadlines: Deadlines[str] = Deadlines()
    for key in "dacb":
        deadlines.set(key, 1.0)
    deadlines.set("d", 1.0)
    assert deadlines.due(1.0) == ["a", "c", "b", "d"]


def test_a_key_that_was_moved_is_due_only_at_its_last_instant() -> None:
    """Later and earlier: an instant that was given up is nothing."""
    deadlines: Deadlines[str] = Deadlines()
    deadlines.set("later", 1.0)
    deadlines.set("later", 3.0)
    deadlines.set("sooner", 3.0)
    deadlines.set("sooner", 2.0)
    assert deadlines.due(1.5) == []
    assert deadlines.due(2.0) == ["sooner"]
    assert deadlines.due(3.0) == ["later"]
    assert deadlines.next_at() is None


def test_requests_that_end_early_cost_no_memory() -> None:
    """Twenty thousand deadlines set and removed leave a small heap, though none of them came."""
    deadlines: Deadlines[int] = Deadlines()
    for key in range(20_000):
        deadlines.set(key, 1_000_000.0 + key)
        if key >= 10:
            deadlines.remove(key - 10)
        assert len(deadlines._heap) <= 2 * len(deadlines) + 64
    assert len(deadlines) == 10


def test_a_burst_that_ends_costs_no_memory() -> None:
    """All of a thousand requests end, and none follows that could tidy up after them."""
    deadlines: Deadlines[int] = Deadlines()
    for key in range(1_000):
        deadlines.set(key, 1_000_000.0)
    for key in range(1_000):
        deadlines.remove(key)
    assert len(deadlines._heap) <= 64


def test_a_key_that_moves_costs_no_memory() -> None:
    """A heartbeat is moved for ever."""
    deadlines: Deadlines[str] = Deadlines()
    for at in range(20_000):
        deadlines.set("beat", float(at))
    assert len(deadlines._heap) <= 2 + 65
    assert deadlines.due(20_000.0) == ["beat"]


@given(st.lists(TIMES, max_size=300))
def test_compaction_loses_nothing(times: list[float]) -> None:
    """Every key is due once at its instant, also when the heap was rebuilt in between."""
    deadlines: Deadlines[int] = Deadlines()
    for at in times:
        for key in range(40):
            deadlines.set(key, at + key)
    last = times[-1] if times else 0.0
    expected = list(range(40)) if times else []
    assert deadlines.due(last + 40) == expected
