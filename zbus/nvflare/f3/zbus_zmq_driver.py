"""The one file that nvflare's driver search finds here: it brings the driver in.

Rules:

* Nothing else stands in this directory, since nvflare imports all of it, under bare names.
"""

from __future__ import annotations

import zbus.nvflare.driver

__all__ = ["ZmqDriver"]

ZmqDriver = zbus.nvflare.driver.ZmqDriver
