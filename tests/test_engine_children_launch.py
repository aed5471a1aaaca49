"""What is started, and how often again: zbus/engine/children/launch.py."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zbus.engine.children.launch import Launch, Restarts, Tally, environment
from zbus.errors import InvalidName


@given(
    most=st.integers(0, 5),
    within_s=st.floats(0.5, 20.0),
    steps=st.lists(st.floats(0.0, 10.0), max_size=40),
)
def test_no_window_holds_more_restarts_than_allowed(
    most: int, within_s: float, steps: list[float]
) -> None:
    """In any window of that length; and one that is refused would have been too many."""
    tally, now = Tally(Restarts(most, within_s)), 100.0
    allowed: list[float] = []
    for step in steps:
        now += step
        recent = sum(instant > now - within_s for instant in allowed)
        assert tally.allows(now) is (recent < most)
        if recent < most:
            allowed.append(now)


def test_without_an_intensity_nothing_is_started_again() -> None:
    """Restarts are asked for, or there are none."""
    assert not Tally(None).allows(0.0)


@pytest.mark.parametrize(
    ("most", "within_s"), [(-1, 1.0), (1, 0.0), (1, -1.0), (1, float("inf")), (1, float("nan"))]
)
def test_what_is_no_intensity_is_refused(most: int, within_s: float) -> None:
    """Before anything is started."""
    with pytest.raises(ValueError, match="intensity"):
        Restarts(most, within_s)


def test_what_is_no_launch_is_refused() -> None:
    """A name that the bus would refuse, or no program."""
    with pytest.raises(InvalidName):
        Launch(argv=("true",), name="not a name")
    for argv in ((), ("",)):
        with pytest.raises(ValueError, match="no program"):
            Launch(argv=argv, name="a")


def test_nothing_that_speaks_for_the_parent_is_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither who it is on the bus nor its line to systemd; all else is."""
    spoken = "LISTEN_FDS NOTIFY_SOCKET WATCHDOG_USEC ZBUS_EPOCH ZBUS_LAUNCH ZBUS_NAME ZBUS_TOKEN"
    for name in spoken.split():
        monkeypatch.setenv(name, "7")
    monkeypatch.setenv("ZBUS_RUNTIME_DIR", "/r")
    passed = environment(None)
    assert not set(passed) & set(spoken.split())
    assert passed["ZBUS_RUNTIME_DIR"] == "/r"
    assert set(os.environ) - set(passed) == set(spoken.split())
    assert environment({"A": "1", "ZBUS_TOKEN": "s"}) == {"A": "1"}
