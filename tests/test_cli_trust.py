"""`zbus trust` lets a key in, and lists who is let in."""

from __future__ import annotations

import json
from pathlib import Path

from keyring import Keyring
from terminals import invoke

from zbus.broker.keys import read_public, read_trust


def test_a_key_is_trusted_and_listed(tmp_path: Path) -> None:
    """Into a directory that is made where it is missing."""
    ring = Keyring(tmp_path, ())
    ring.make("site-1")
    place = tmp_path / "new" / "trust"
    result = invoke("trust", "--dir", str(place), str(ring.public("site-1")))
    assert result.exit_code == 0
    assert "SIGHUP" in result.stdout
    key = read_public(ring.public("site-1"))
    assert read_trust(place).name_of(key.public) == "site-1"
    assert key.fingerprint in invoke("trust", "--dir", str(place)).stdout
    listed = json.loads(invoke("trust", "--dir", str(place), "--json").stdout)
    assert listed == [{"name": "site-1", "fingerprint": key.fingerprint, "trusted": True}]


def test_what_is_no_public_key_is_refused(tmp_path: Path) -> None:
    """Also a secret one, which nobody should have sent; and no directory at all."""
    ring = Keyring(tmp_path)
    result = invoke("trust", "--dir", str(ring.trust), str(ring.secret("broker")))
    assert result.exit_code == 78
    assert ring.secret_text("broker") not in result.output
    assert invoke("trust", str(ring.public("broker"))).exit_code == 2
