"""Key files and the directory of trust: zbus/broker/keys.py."""

from __future__ import annotations

import os
import resource
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zbus.broker.keys import (
    PublicKey,
    Trust,
    add_trust,
    new_key,
    read_public,
    read_secret,
    read_trust,
    revoke,
    write_pair,
)
from zbus.errors import ConfigError, InvalidName


def pair(place: Path, name: str = "site-1") -> tuple[Path, Path]:
    return write_pair(place, new_key(name))


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    """Both sides, and the secret one is its owner's alone, whatever the umask is."""
    key = new_key("site-1")
    before = os.umask(0)
    try:
        secret, public = write_pair(tmp_path, key)
    finally:
        os.umask(before)
    assert read_secret(secret) == key
    assert read_public(public) == key.shown
    assert stat.S_IMODE(secret.stat().st_mode) == 0o600
    assert key.secret not in public.read_text()


def test_a_full_disk_leaves_no_half_key(tmp_path: Path) -> None:
    """It would keep the broker from starting; and the next try finds nothing in its way."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    key = new_key("site-1")
    resource.setrlimit(resource.RLIMIT_FSIZE, (20, hard))
    try:
        with pytest.raises(ConfigError, match="cannot be written"):
            add_trust(tmp_path, key.shown)
        with pytest.raises(ConfigError, match="cannot be written"):
            write_pair(tmp_path, key)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(tmp_path.iterdir()) == []
    add_trust(tmp_path, key.shown)
    assert read_trust(tmp_path).name_of(key.public) == "site-1"


def test_no_key_is_written_over(tmp_path: Path) -> None:
    """Neither side, and what stands there stays."""
    secret, public = pair(tmp_path)
    before = secret.read_text(), public.read_text()
    with pytest.raises(ConfigError, match="no key is written over"):
        pair(tmp_path)
    public.unlink()
    with pytest.raises(ConfigError, match="no key is written over"):
        pair(tmp_path)
    assert secret.read_text() == before[0]
    assert not public.exists()


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o660, 0o700 | 0o011])
def test_p16_a_loose_secret_is_refused(tmp_path: Path, mode: int) -> None:
    """Whatever others may do with it."""
    secret, _ = pair(tmp_path)
    secret.chmod(mode)
    with pytest.raises(ConfigError, match="others can read or write"):
        read_secret(secret)


def test_p16_a_public_key_that_others_write_is_refused(tmp_path: Path) -> None:
    """They may read it."""
    _, public = pair(tmp_path)
    public.chmod(0o644)
    read_public(public)
    public.chmod(0o646)
    with pytest.raises(ConfigError, match="others can write"):
        read_public(public)


@given(st.binary(max_size=300) | st.text(max_size=300).map(lambda text: text.encode()))
def test_p16_garbage_is_no_key(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    """It is refused in words, and not quoted."""
    path = tmp_path_factory.mktemp("k") / "x.key"
    path.write_bytes(content)
    path.chmod(0o600)
    for read in (read_secret, read_public):
        with pytest.raises(ConfigError) as caught:
            read(path)
        assert len(content) < 8 or content.decode("utf-8", "replace") not in caught.value.what


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('name = "site-1"', 'name = "no name"'),
        ('name = "site-1"', 'name = "site-1"\nmore = "x"'),
        ('public = "', 'public = "x'),
        ('secret = "', 'secret = "\\u00e9'),
        ("secret = ", "secret = 5 # "),
    ],
)
def test_a_changed_file_is_no_key(tmp_path: Path, old: str, new: str) -> None:
    """Each part is looked at, and nothing may be added."""
    secret, _ = pair(tmp_path)
    secret.write_text(secret.read_text().replace(old, new))
    with pytest.raises(ConfigError):
        read_secret(secret)


def test_two_sides_must_be_of_one_key(tmp_path: Path) -> None:
    """A secret with another's public side would be somebody else's identity."""
    secret, _ = pair(tmp_path)
    mine, other = read_secret(secret), new_key("site-1")
    secret.write_text(secret.read_text().replace(mine.public, other.public))
    with pytest.raises(ConfigError, match="not of one key") as caught:
        read_secret(secret)
    assert mine.secret not in str(caught.value)


def test_a_secret_is_in_no_repr() -> None:
    """What is logged by accident shows the public side."""
    key = new_key("site-1")
    assert key.secret not in repr(key)
    assert key.public in repr(key)
    with pytest.raises(InvalidName):
        new_key("no name")


def test_trust_and_revoke(tmp_path: Path) -> None:
    """Two keys of one name may be trusted; revoked is for good, and known as such."""
    first, second, other = new_key("site-1"), new_key("site-1"), new_key("site-2")
    place = tmp_path / "trust"
    for key in (first, second, other):
        add_trust(place, key.shown)
    trust = read_trust(place)
    assert [trust.name_of(key.public) for key in (first, second)] == ["site-1", "site-1"]
    assert revoke(place, first.fingerprint) == [first.shown]
    trust = read_trust(place)
    assert trust.name_of(first.public) is None
    assert trust.is_revoked(first.public)
    assert trust.name_of(second.public) == "site-1"
    assert revoke(place, "site-1") == [second.shown]
    assert read_trust(place).name_of(other.public) == "site-2"
    assert not read_trust(place).is_revoked(new_key("x").public)
    with pytest.raises(ConfigError, match="was revoked"):
        add_trust(place, first.shown)
    with pytest.raises(ConfigError, match="trusted already"):
        add_trust(place, other.shown)
    with pytest.raises(ConfigError, match="trusts no key"):
        revoke(place, "site-1")


def test_p16_one_bad_file_refuses_all_trust(tmp_path: Path) -> None:
    """Also among the revoked; files of other names mean nothing."""
    add_trust(tmp_path / "t", new_key("site-1").shown)
    (tmp_path / "t" / "notes.txt").write_text("?")
    (tmp_path / "t" / ".hidden.pub").write_text("?")
    assert list(read_trust(tmp_path / "t").trusted.values()) == ["site-1"]
    for name in ("x.pub", "x.revoked"):
        (tmp_path / "t" / name).write_text("garbage")
        with pytest.raises(ConfigError, match="is no key"):
            read_trust(tmp_path / "t")
        (tmp_path / "t" / name).unlink()


def test_p16_a_loose_directory_is_refused(tmp_path: Path) -> None:
    """Whoever can write it could trust himself."""
    place = tmp_path / "t"
    with pytest.raises(ConfigError, match="cannot be read"):
        read_trust(place)
    place.mkdir()
    place.chmod(0o777)
    with pytest.raises(ConfigError, match="others can write"):
        read_trust(place)
    place.chmod(0o755)
    assert read_trust(place) == Trust()


@given(st.text(max_size=60))
def test_no_other_text_is_trusted(text: str) -> None:
    """Names are found by the key and nothing else."""
    key = new_key("site-1")
    trust = Trust({key.fingerprint: "site-1"})
    assert trust.name_of(text) is None
    assert PublicKey("x", key.public).fingerprint == key.fingerprint
