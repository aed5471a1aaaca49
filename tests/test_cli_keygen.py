"""`zbus keygen` makes a pair, once."""

from __future__ import annotations

import json
from pathlib import Path

from terminals import invoke

from zbus.broker.keys import read_public, read_secret


def test_a_pair_is_made_and_never_written_over(tmp_path: Path) -> None:
    """It says where; the second time it fails, and what is there stays."""
    made = invoke("keygen", "site-1", "--dir", str(tmp_path))
    assert made.exit_code == 0
    key = read_secret(tmp_path / "site-1.key")
    assert read_public(tmp_path / "site-1.pub") == key.shown
    assert key.fingerprint in made.stdout
    assert key.secret not in made.stdout
    again = invoke("keygen", "site-1", "--dir", str(tmp_path))
    assert again.exit_code == 78
    assert "no key is written over" in again.stderr
    assert read_secret(tmp_path / "site-1.key") == key


def test_json_says_where(tmp_path: Path) -> None:
    """One object, without the secret."""
    said = json.loads(invoke("keygen", "b", "--dir", str(tmp_path), "--json").stdout)
    assert said["name"] == "b"
    assert said["fingerprint"] == read_secret(Path(said["secret_file"])).fingerprint
    assert read_public(Path(said["public_file"])).name == "b"
    assert set(said) == {"name", "fingerprint", "secret_file", "public_file"}


def test_a_name_that_is_none_is_refused(tmp_path: Path) -> None:
    """Before anything is written."""
    assert invoke("keygen", "no name", "--dir", str(tmp_path)).exit_code == 2
    assert not list(tmp_path.iterdir())
