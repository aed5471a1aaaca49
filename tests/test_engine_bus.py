"""Attaching: a real peer is all that an engine needs, and so is any object with its methods."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest
from brokers import broker
from engine_stages import SimulatedBus, WiredBus

from zbus.engine.bus import HANDLERS, Bus, Reply, attach_to
from zbus.errors import BrokerUnreachable
from zbus.peer import peer
from zbus.peer.dispatcher import Dispatcher

METHODS = "request submit push flush close".split()


@pytest.mark.parametrize("kind", [peer.Peer, WiredBus, SimulatedBus])
def test_who_is_a_bus(kind: type) -> None:
    """Every parameter of the interface is one of theirs."""
    for name in METHODS:
        wanted = inspect.signature(getattr(Bus, name)).parameters
        assert {*wanted} <= {*inspect.signature(getattr(kind, name)).parameters}
    assert all(hasattr(peer.Reply, name) for name in vars(Reply) if name[0] != "_")


@pytest.mark.real
def test_attaching_to_a_broker(tmp_path: Path) -> None:
    """Under the name, with room for many handlers."""
    with broker(tmp_path) as here:
        bus = attach_to(here.frontend, "engine")("site-1.job", Dispatcher())
        assert here.see(lambda daemon: daemon.broker.roster.named("site-1.job")) is not None
        bus.close(drain=0.0)
    assert HANDLERS == 64


@pytest.mark.real
def test_without_a_broker(tmp_path: Path) -> None:
    """It says so, after a while."""
    with pytest.raises(BrokerUnreachable):
        attach_to(f"ipc://{tmp_path}/nobody", "engine")("site-1.job", Dispatcher())
