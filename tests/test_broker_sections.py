"""The declared settings: zbus/broker/sections.py."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, fields

import pytest

from zbus.broker import sections
from zbus.broker.sections import DOORS, LimitsSection, ListenSection, TimesSection
from zbus.protocol.limits import Limits

SECTIONS = [getattr(sections, name) for name in sections.__all__ if name != "DOORS"]


@pytest.mark.parametrize("section", SECTIONS)
def test_every_field_has_a_form_and_a_reason(section: type) -> None:
    """The reason is a sentence, and the default has the form."""
    for one in fields(section):
        form, text = one.metadata["form"], one.metadata["text"]
        assert text.endswith(".")
        assert len(text) > 15
        assert form.expected
        assert form.show(one.default)


@pytest.mark.parametrize("section", SECTIONS)
def test_every_section_says_what_it_is_about(section: type) -> None:
    """Its docstring stands above it in the commented file."""
    assert (section.__doc__ or "").rstrip().endswith(".")


@pytest.mark.parametrize("section", SECTIONS)
def test_a_section_cannot_be_changed(section: type) -> None:
    """What was judged as a whole stays as it was judged."""
    made = section()
    with pytest.raises(FrozenInstanceError):
        setattr(made, fields(section)[0].name, None)


def test_the_limits_are_the_protocols() -> None:
    """One setting for each limit but the heartbeat, which is a time, and the same defaults."""
    protocol = {one.name: one.default for one in fields(Limits) if one.name != "heartbeat_s"}
    assert protocol == {one.name: one.default for one in fields(LimitsSection)}
    assert Limits().heartbeat_s == TimesSection().heartbeat_s


def test_there_are_three_times() -> None:
    """The fourth, timeout, is an argument of every request; there is no fifth."""
    assert [one.name for one in fields(TimesSection)] == ["heartbeat_s", "drain_s", "connect_s"]


def test_p16_nothing_is_open_by_default() -> None:
    """Only sockets in the runtime directory, and no word for tcp."""
    listen = ListenSection()
    assert not listen.insecure
    for door in DOORS:
        assert getattr(listen, door) == (f"ipc:///run/zbus/{door}",)
