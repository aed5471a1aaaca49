"""What is started, and how often again: zbus/engine/children/launch.py."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from keyring import Keyring

from zbus.broker.keys import read_public
from zbus.engine.children.launch import Launch, Restarts, Tally, environment
from zbus.errors import ChildFailed, InvalidName


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


@pytest.mark.parametrize("missing", ["key", "server_key"])
def test_one_key_without_the_other_is_refused(missing: str) -> None:
    """At once: the child could use neither."""
    keys: dict[str, Any] = {"key": "a.key", "server_key": "b.pub", missing: None}
    with pytest.raises(ValueError, match="both a key and a server key"):
        Launch(argv=("true",), name="a", **keys)


def test_each_life_is_handed_the_keys_as_the_files_have_them(tmp_path: Path) -> None:
    """As values; a file that was replaced is what the next life has, and one that is gone says
    so."""
    ring = Keyring(tmp_path)
    launch = Launch(
        argv=("true",),
        name="site-1.job-7",
        key=ring.secret("site-1"),
        server_key=[ring.public("broker"), ring.public("server")],
    )
    first = launch.handover(1, "t").keys
    assert first is not None
    assert first.secret == ring.secret_text("site-1")
    assert first.servers == tuple(read_public(ring.public(n)).public for n in ("broker", "server"))
    ring.secret("site-1").unlink()
    ring.public("site-1").unlink()
    with pytest.raises(ChildFailed, match=r"site-1\.job-7 cannot be given its key: .*site-1\.key"):
        launch.handover(2, "t")
    ring.make("site-1")
    second = launch.handover(3, "t").keys
    assert second is not None
    assert second.secret == ring.secret_text("site-1") != first.secret
    assert Launch(argv=("true",), name="a").handover(1, "t").keys is None


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
