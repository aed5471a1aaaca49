"""A libzmq that cannot carry the bus is refused before a socket is opened, with what to do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import zmq

from zbus.broker.life import run_broker
from zbus.broker.sections import BrokerSection, ListenSection
from zbus.broker.settings import Settings
from zbus.errors import UnfitLibrary
from zbus.peer.peer import connect
from zbus.transport.library import FLOOR, NEEDED, check_library


def has_all_but(missing: str) -> Callable[[str], bool]:
    return lambda feature: feature != missing


def test_the_libzmq_of_this_machine_will_do() -> None:
    """The one that the wheels of pyzmq bring."""
    check_library()
    assert zmq.zmq_version_info() >= FLOOR


@pytest.mark.parametrize("found", [(4, 3, 4), (4, 2, 9), (3, 9, 9)])
def test_an_older_one_is_refused(monkeypatch: pytest.MonkeyPatch, found: tuple[int, ...]) -> None:
    """With its version, the one that is needed, and the remedy."""
    monkeypatch.setattr(zmq, "zmq_version_info", lambda: found)
    monkeypatch.setattr(zmq, "zmq_version", lambda: ".".join(map(str, found)))
    with pytest.raises(UnfitLibrary) as refused:
        check_library()
    said = str(refused.value)
    assert f"libzmq {'.'.join(map(str, found))} " in said
    assert zmq.pyzmq_version() in said
    assert "at least 4.3.5" in said
    assert "pip install -U pyzmq" in said


@pytest.mark.parametrize("found", [(4, 3, 5), (4, 3, 6), (4, 4, 0), (5, 0, 0)])
def test_a_newer_one_is_not(monkeypatch: pytest.MonkeyPatch, found: tuple[int, ...]) -> None:
    """Also where its last number is smaller."""
    monkeypatch.setattr(zmq, "zmq_version_info", lambda: found)
    check_library()


@pytest.mark.parametrize("feature", NEEDED)
def test_one_without_a_feature_is_refused(monkeypatch: pytest.MonkeyPatch, feature: str) -> None:
    """The feature is named, and what it is for; those that are there are not."""
    monkeypatch.setattr(zmq, "has", has_all_but(feature))
    with pytest.raises(UnfitLibrary) as refused:
        check_library()
    named = [each for each in NEEDED if f"{each} ({NEEDED[each]})" in refused.value.what]
    assert named == [feature]


def test_connect_looks_first(monkeypatch: pytest.MonkeyPatch, runtime_dir: Path) -> None:
    """Before it waits for a broker that it could not speak to."""
    monkeypatch.setattr(zmq, "has", has_all_but("curve"))
    with pytest.raises(UnfitLibrary):
        connect(f"ipc://{runtime_dir}/frontend", timeout=60.0)


def test_a_broker_looks_first(monkeypatch: pytest.MonkeyPatch, runtime_dir: Path) -> None:
    """Nothing is bound and no lock is left."""
    monkeypatch.setattr(zmq, "has", has_all_but("ipc"))
    front, back, pipe = ((f"ipc://{runtime_dir}/{door}",) for door in ("front", "back", "pipe"))
    settings = Settings(
        broker=BrokerSection(runtime_dir=runtime_dir),
        listen=ListenSection(frontend=front, backend=back, pipe=pipe),
    )
    with pytest.raises(UnfitLibrary):
        run_broker(settings)
    assert list(runtime_dir.iterdir()) == []
