"""The file that nvflare's driver search finds."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

pytest.importorskip("nvflare", reason="needs the extra nvflare")

from nvflare.fuel.f3.drivers.driver_manager import DriverManager

from zbus.nvflare.driver import ZmqDriver, driver_path

pytestmark = pytest.mark.real


def test_the_search_registers_one_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    """Under its bare name, for its one scheme, and without a warning."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    drivers = DriverManager()
    drivers.search_folder(driver_path(), None)
    assert drivers.drivers == {"zmq": ZmqDriver}
    assert Path(sys.modules["zbus_zmq_driver"].__file__ or "").parent == Path(driver_path())
