"""Aux messages of nvflare itself, client job to server job: ``python tools/bench/nvflare_aux.py``.

Three processes, as between real jobs: the client's cell, the server's root cell in the middle,
the cell of the server's job. Needs the extra ``nvflare``. Prints one JSON object, for comparison
with the same over the bus, taken in the same sitting. ``--scheme zmq`` takes our F3 driver.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from nvflare_cells import CellProcess, free_port

_START_S = 30.0
_SETTLED_S = 1.0
"""Nothing more is handled after nothing was for this long."""


@contextmanager
def _relay(scheme: str) -> Iterator[tuple[CellProcess, CellProcess]]:
    """The cells of a client's and of the server's job, with the root between them."""
    url = f"{scheme}://127.0.0.1:{free_port()}"
    with tempfile.TemporaryDirectory(prefix="zb") as place, ExitStack() as stack:
        root = CellProcess(Path(place), "server", url, scheme=scheme)
        stack.callback(root.end)
        server = CellProcess(Path(place), "server.job-1", url, root.listener, scheme=scheme)
        stack.callback(server.end)
        client = CellProcess(Path(place), "site-1.job-1", url, scheme=scheme)
        stack.callback(client.end)
        deadline = time.monotonic() + _START_S
        while client.tell(ask=1) != [{"server": "OK"}]:
            assert time.monotonic() < deadline, "the cells do not find each other"
        yield client, server


def _handled(server: CellProcess) -> tuple[int, float]:
    """How many requests were handled in all, once there are no more, and when the last came."""
    count, at = server.tell(count=True)["handled"], time.monotonic()
    while time.monotonic() < at + _SETTLED_S:
        time.sleep(0.02)
        newer = server.tell(count=True)["handled"]
        if newer != count:
            count, at = newer, time.monotonic()
    return count, at


def main() -> int:
    """Measure, and print JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--scheme", default="tcp", help="tcp, grpc, or zmq for our driver")
    parser.add_argument("--requests", type=int, default=2_000, help="sequential requests")
    parser.add_argument("--window", type=float, default=3.0, help="seconds for each rate")
    options = parser.parse_args()
    with _relay(options.scheme) as (client, server):
        figures = client.tell(time={"requests": options.requests, "window_s": options.window})
        before, _ = _handled(server)
        began = time.monotonic()
        sent = client.tell(flood=options.window)
        after, ended = _handled(server)
    figures["fired_per_s"] = round(sent / options.window, 1)
    figures["fired_handled_per_s"] = round((after - before) / (ended - began), 1)
    figures["fired_lost"] = sent - (after - before)
    print(json.dumps({"scheme": options.scheme, "topology": "relay", **figures}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
