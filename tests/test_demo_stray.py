"""The engine that goes astray: zbus/demo/stray.py. Its process runs in test_demo_warden.py."""

from __future__ import annotations

import threading

import pytest
from brokers import until
from engine_stages import wired_pair

from zbus.demo.plan import SPIN
from zbus.demo.stray import Stray
from zbus.engine import EventType, Shareable
from zbus.engine.job_engine import Equipment


def test_its_handler_never_returns() -> None:
    """Neither by itself nor when the run is aborted; whoever waits for the end hears of it."""
    stray = Stray()
    server, client = wired_pair(client=Equipment(components={"stray": stray}))
    replies: list[object] = []

    def ask() -> None:
        replies.append(
            server.send_aux_request(["site-1"], SPIN, Shareable(), 1.0, server.new_context())
        )

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    until(lambda: stray.spins == 1, "the handler runs")
    assert not stray.is_over.is_set()
    client.abort_app(client.job_id, client.new_context())
    assert stray.is_over.is_set()
    thread.join(0.05)
    assert thread.is_alive()
    assert replies == []
    stray.never.set()
    thread.join(20.0)
    assert not thread.is_alive()


@pytest.mark.parametrize("event_type", [EventType.ABOUT_TO_END_RUN, EventType.ABORT_TASK])
def test_only_the_end_of_the_run_is_the_end(event_type: str) -> None:
    """Other events are not."""
    stray = Stray()
    _, client = wired_pair(client=Equipment(components={"stray": stray}))
    client.fire_event(event_type, client.new_context())
    assert not stray.is_over.is_set()
    assert client.get_component("stray") is stray
