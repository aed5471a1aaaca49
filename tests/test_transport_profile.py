"""The numbers of a socket stand in relations that the bus relies on."""

from __future__ import annotations

import dataclasses

import pytest

from zbus.protocol.limits import HEADER_MAX_BYTES, Limits
from zbus.transport.profile import SocketProfile


def test_the_largest_frames_pass() -> None:
    """A header at its bound and a body at its default bound are below the frame's bound."""
    profile = SocketProfile()
    assert profile.frame_max_bytes > max(HEADER_MAX_BYTES, Limits().body_max_bytes)


def test_a_restart_is_found_in_time() -> None:
    """Even the longest pause, with the chance that ZeroMQ adds, is below the two seconds in
    which peers are promised to be back (promise P6)."""
    profile = SocketProfile()
    assert profile.reconnect_ms < profile.reconnect_max_ms
    assert profile.reconnect_max_ms + profile.reconnect_ms < 2_000


def test_a_slow_reader_is_not_cut_before_its_time() -> None:
    """TCP_MAXRT also cuts a peer that is alive and does not read, so it waits longer than
    keepalive, which asks a peer that is quiet."""
    profile = SocketProfile()
    quiet_s = profile.keepalive_idle_s + profile.keepalive_every_s * profile.keepalive_count
    assert profile.unanswered_ms > 1_000 * quiet_s


def test_a_profile_does_not_change() -> None:
    """Options work only before bind, so a profile that could be changed would lie."""
    with pytest.raises(dataclasses.FrozenInstanceError):
        SocketProfile().backlog = 1  # type: ignore[misc]
