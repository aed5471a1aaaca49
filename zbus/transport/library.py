"""What the libzmq of this machine must be able to do, looked at before the first socket.

pyzmq may be built against any libzmq. An old one, or one without CURVE, would not fail at the
start but open, or in the middle: so it is refused, with what is wrong, which one it is and what
to do.

Rules of this room:

* ``FLOOR`` is the release that the bus was measured on. Some older ones have holes that can be
  used before a key is shown (CVE-2019-13132, CVE-2020-15166); nothing here works around them.
* ``NEEDED`` is needed whole, whatever the endpoint: a broker that can do ipc only today would
  refuse its first tcp setting with a libzmq error tomorrow.
* It costs a microsecond, and is asked again each time, so that nothing is remembered.
"""

from __future__ import annotations

import zmq

from zbus.errors import UnfitLibrary

__all__ = ["FLOOR", "NEEDED", "check_library"]

FLOOR = (4, 3, 5)
NEEDED = {"curve": "keys over tcp", "ipc": "sockets in a directory"}
"""Features by libzmq's names, and what the bus uses them for."""


def check_library() -> None:
    """Nothing, where this libzmq will do; for whoever is about to open sockets.

    Raises:
        UnfitLibrary: it is too old, or was built without a feature. The text names it.
    """
    found = zmq.zmq_version_info()
    which = f"libzmq {zmq.zmq_version()} (with pyzmq {zmq.pyzmq_version()})"
    if found < FLOOR:
        raise UnfitLibrary(f"{which} is too old: at least {'.'.join(map(str, FLOOR))} is needed")
    missing = [f"{name} ({purpose})" for name, purpose in NEEDED.items() if not zmq.has(name)]
    if missing:
        raise UnfitLibrary(f"{which} was built without {' and '.join(missing)}")
