"""`zbus revoke` takes the trust in a key back."""

from __future__ import annotations

import json
from pathlib import Path

from keyring import Keyring
from terminals import invoke

from zbus.broker.keys import read_public, read_trust


def test_a_name_or_a_fingerprint_is_revoked(tmp_path: Path) -> None:
    """And stays known as revoked; the others stay trusted."""
    ring = Keyring(tmp_path, ("server", "site-1", "site-2"))
    keys = {name: read_public(ring.public(name)) for name in ("server", "site-1", "site-2")}
    assert invoke("revoke", "--dir", str(ring.trust), "site-1").exit_code == 0
    print_ = keys["site-2"].fingerprint
    said = json.loads(invoke("revoke", "--dir", str(ring.trust), print_, "--json").stdout)
    assert said == {"name": "site-2", "fingerprint": print_, "trusted": False}
    trust = read_trust(ring.trust)
    assert trust.is_revoked(keys["site-1"].public)
    assert trust.is_revoked(keys["site-2"].public)
    assert trust.name_of(keys["server"].public) == "server"
    states = invoke("trust", "--dir", str(ring.trust)).stdout
    assert states.count("revoked") == 2


def test_nobody_of_that_name_is_told(tmp_path: Path) -> None:
    """With the directory that was looked at."""
    ring = Keyring(tmp_path)
    result = invoke("revoke", "--dir", str(ring.trust), "nobody")
    assert result.exit_code == 78
    assert str(ring.trust) in result.stderr
