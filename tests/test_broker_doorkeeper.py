"""The keys in force, and the authenticator watched: zbus/broker/doorkeeper.py."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from keyring import Keyring
from real_ports import settle

from zbus.broker.doorkeeper import Doorkeeper
from zbus.broker.keys import new_key, read_public, read_secret, revoke, write_pair
from zbus.broker.sections import LimitsSection, PolicySection, SecuritySection
from zbus.broker.settings import Settings
from zbus.broker.zap import Authenticator
from zbus.errors import ConfigError
from zbus.transport.sockets import ZmqNetwork


def settings_of(ring: Keyring) -> Settings:
    return Settings(security=SecuritySection(key=ring.secret("broker"), trust=ring.trust))


def test_names_follow_a_reload(tmp_path: Path) -> None:
    """And the guard has the broker's key."""
    ring = Keyring(tmp_path)
    doorkeeper = Doorkeeper(settings_of(ring))
    public = read_public(ring.public("site-1")).public
    assert doorkeeper.name_of(public) == "site-1"
    assert doorkeeper.guard.secret == read_secret(ring.secret("broker")).secret
    revoke(ring.trust, "site-1")
    assert doorkeeper.name_of(public) == "site-1"
    doorkeeper.reload(doorkeeper.settings)
    assert doorkeeper.name_of(public) is None
    assert Doorkeeper(Settings()).guard.secret == ""


def test_p19_what_takes_a_restart_refuses_the_reload(tmp_path: Path) -> None:
    """It is named, and the old settings and keys hold; the policy may change."""
    ring = Keyring(tmp_path)
    doorkeeper = Doorkeeper(settings_of(ring))
    old = doorkeeper.settings
    revoke(ring.trust, "site-1")
    with pytest.raises(ConfigError, match=r"limits\.peers has changed, which takes a restart"):
        doorkeeper.reload(replace(old, bounds=LimitsSection(peers=7)))
    (ring.trust / "x.pub").write_text("garbage")
    with pytest.raises(ConfigError, match="is no key"):
        doorkeeper.reload(old)
    (ring.trust / "x.pub").unlink()
    ring.secret("broker").unlink()
    ring.public("broker").unlink()
    write_pair(tmp_path, new_key("broker"))
    with pytest.raises(ConfigError, match=r"what security\.key holds has changed"):
        doorkeeper.reload(old)
    assert doorkeeper.settings is old
    assert doorkeeper.name_of(read_public(ring.public("site-1")).public) == "site-1"


def test_the_policy_may_change(tmp_path: Path) -> None:
    """Without a restart."""
    doorkeeper = Doorkeeper(settings_of(Keyring(tmp_path)))
    new = replace(doorkeeper.settings, policy=PolicySection(engine_to_engine=False, rules={}))
    doorkeeper.reload(new)
    assert doorkeeper.settings is new


def test_p16_a_dead_authenticator_is_begun_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Its death is an error in the log; one that lives is left alone."""
    network = ZmqNetwork()
    doorkeeper = Doorkeeper(settings_of(Keyring(tmp_path)))
    doorkeeper.open(network)
    authenticator = doorkeeper._authenticator
    assert authenticator is not None
    try:
        doorkeeper.watch()
        assert "authenticator_died" not in caplog.text
        authenticator.stop()
        authenticator._stopping.clear()
        assert not authenticator.is_alive
        doorkeeper.watch()
        assert "authenticator_died" in caplog.text
        settle(lambda: authenticator.is_alive)
    finally:
        doorkeeper.close()
        network.close()
    assert isinstance(authenticator, Authenticator)
