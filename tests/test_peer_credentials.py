"""A peer's keys, and what it makes of a refusal: zbus/peer/credentials.py."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
from keyring import Keyring

from zbus.broker.keys import read_public, read_secret
from zbus.errors import AuthFailed, ConfigError, ZbusError
from zbus.peer.credentials import CUTS, Credentials, KeyFiles, keys_of, own_name, peer_options
from zbus.peer.handover import Handover, open_handover
from zbus.protocol.session import Identity
from zbus.transport.guard import Handshake

TCP = "tcp://127.0.0.1:7421"


class Heard:
    """Credentials of ``site-1``, and what it was refused with."""

    def __init__(self, place: Path, *servers: str, endpoint: str = TCP) -> None:
        ring = Keyring(place)
        ring.make("next")
        self.told: list[tuple[ZbusError, bool]] = []
        files: KeyFiles = {"key": ring.secret("site-1")} if servers else {}
        if servers:
            files["server_key"] = [ring.public(each) for each in servers]
        self.credentials = Credentials(endpoint, files, lambda *why: self.told.append(why), {})

    def hears(self, handshake: Handshake, attempt: int = 0) -> None:
        self.credentials._heard(handshake, attempt)


@pytest.mark.parametrize(
    ("handshake", "text", "final"),
    [
        (Handshake.UNKNOWN, "of site-1 is unknown", False),
        (Handshake.REVOKED, "of site-1 was revoked", True),
        (Handshake.MISMATCH, "has no key", False),
    ],
)
def test_a_refusal_that_is_told_is_believed_at_once(
    tmp_path: Path, handshake: Handshake, text: str, final: bool
) -> None:
    """Only a revoked key is the end of a peer that was taken in before."""
    heard = Heard(tmp_path, "broker")
    heard.hears(handshake)
    ((error, was_final),) = heard.told
    assert isinstance(error, AuthFailed)
    assert text in error.what
    assert was_final is final


def test_a_hang_up_is_believed_after_some_on_each_key(tmp_path: Path) -> None:
    """What an older attempt still hears counts for nothing, and a success forgets them."""
    heard = Heard(tmp_path, "broker", "next")
    gate = heard.credentials.gate
    for _ in range(CUTS - 1):
        heard.hears(Handshake.CUT)
    heard.hears(Handshake.DONE)
    for _ in range(CUTS):
        assert gate.attempt == 0
        heard.hears(Handshake.CUT)
    assert gate.attempt == 1
    for _ in range(CUTS):
        heard.hears(Handshake.CUT, 0)
    assert not heard.told
    for _ in range(CUTS):
        heard.hears(Handshake.CUT, 1)
    assert "wrong server key" in heard.told[0][0].what
    assert gate.attempt == 2


def test_without_a_key_a_broker_that_wants_one_is_named(tmp_path: Path) -> None:
    """A hang-up alone is no refusal: it may just be going down."""
    heard = Heard(tmp_path)
    for _ in range(CUTS * 3):
        heard.hears(Handshake.CUT)
    assert not heard.told
    heard.hears(Handshake.MISMATCH)
    assert "no security" in heard.told[0][0].what


@pytest.mark.parametrize(
    "endpoint", ["tcp://10.0.0.9:1", "tcp://broker.example:1", "tcp://127.0.0.1.evil.example:1"]
)
def test_p16_nothing_goes_beyond_this_machine_in_the_clear(tmp_path: Path, endpoint: str) -> None:
    """With a key it may."""
    with pytest.raises(AuthFailed, match="beyond this machine"):
        Heard(tmp_path, endpoint=endpoint)
    (tmp_path / "k").mkdir()
    Heard(tmp_path / "k", "broker", endpoint=endpoint)


def test_the_environment_names_files(tmp_path: Path) -> None:
    """Arguments go before it; over ipc no key is looked at."""
    ring = Keyring(tmp_path)
    both = f"{ring.public('broker')}:{ring.public('server')}"
    environ = {"ZBUS_KEY": str(ring.secret("site-1")), "ZBUS_SERVER_KEY": both}

    def own(endpoint: str, files: KeyFiles, environ: Mapping[str, str] = environ) -> str:
        found = Credentials(endpoint, files, lambda *why: None, environ).own
        return found.name if found is not None else ""

    assert own(TCP, {}) == "site-1"
    assert own(TCP, {"key": ring.secret("server")}) == "server"
    assert own("ipc:///run/x", {}) == ""
    with pytest.raises(AuthFailed, match="no server key"):
        own(TCP, {}, {"ZBUS_KEY": str(ring.secret("site-1"))})
    with pytest.raises(ConfigError, match="cannot be read"):
        own(TCP, {"key": tmp_path / "none.key"})
    assert own_name("zbus-req-1", TCP, {}, environ) == "site-1.zbus-req-1"
    assert own_name("zbus-req-1", "ipc:///x", {}, environ) == "zbus-req-1"


def test_a_made_up_name_is_below_the_keys(tmp_path: Path) -> None:
    """One that was chosen stays, and is the broker's to judge."""
    credentials = Heard(tmp_path, "broker").credentials
    identity = Identity(name="engine-1")
    assert credentials.named(identity, None).name == "site-1.engine-1"
    assert credentials.named(identity, "engine-1") is identity


def test_what_a_parent_handed_over_goes_before_the_environment(tmp_path: Path) -> None:
    """Its values are used and no file is read, and the name that it chose stays as it is."""
    ring = Keyring(tmp_path)
    keys = keys_of({"key": ring.secret("site-1"), "server_key": ring.public("broker")})
    environ = {
        "ZBUS_LAUNCH": open_handover(Handover("site-1.job-7", 1, keys=keys))[1],
        "ZBUS_KEY": "/not/there",
        "ZBUS_SERVER_KEY": "/not/there",
    }
    handed = Credentials(TCP, {}, lambda *why: None, environ)
    assert handed.own == read_secret(ring.secret("site-1"))
    assert handed._servers == (read_public(ring.public("broker")).public,)
    identity = Identity(name="site-1.job-7")
    assert handed.named(identity, None) is identity
    files: KeyFiles = {"key": ring.secret("server"), "server_key": ring.public("server")}
    chosen = Credentials(TCP, files, lambda *why: None, environ)
    assert chosen.own == read_secret(ring.secret("server"))
    assert chosen._servers == (read_public(ring.public("server")).public,)
    assert Credentials("ipc:///x", {}, lambda *why: None, environ).own is None


def test_what_cannot_be_handed_over_says_so(tmp_path: Path) -> None:
    """A key that is not there, and a key without the broker's."""
    ring = Keyring(tmp_path)
    with pytest.raises(ConfigError, match="cannot be read"):
        keys_of({"key": tmp_path / "none.key", "server_key": ring.public("broker")})
    with pytest.raises(AuthFailed, match="no server key"):
        keys_of({"key": ring.secret("site-1"), "server_key": []})


def test_no_secret_is_in_what_is_kept(tmp_path: Path) -> None:
    """Not in the gate's repr, nor in an error."""
    heard = Heard(tmp_path, "broker")
    secret = read_secret(tmp_path / "site-1.key").secret
    heard.hears(Handshake.UNKNOWN)
    assert secret not in repr(vars(heard.credentials)) + repr(vars(heard.credentials.gate))
    assert secret not in repr(heard.told)


def test_an_option_that_does_not_exist_is_told() -> None:
    """As for any argument."""
    assert peer_options({"key": "x"}) == {"key": "x"}
    with pytest.raises(TypeError, match="'kee'"):
        peer_options({"kee": "x"})
