"""The FLARE face beside nvflare's own: ``python tools/bench/flare.py``, an aux message each.

Both client job to server job with one process between them: nvflare's root cell, or our broker.
They are measured in turn in one sitting, and what counts is the ratio. nvflare's side needs a
Python with the extra ``nvflare``: this one, or the one that ``--nvflare-python`` names.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from zbus.engine import ClientEngine, FLContext, ServerEngine, Shareable, make_reply
from zbus.engine.constants import ReturnCode

BODY = os.urandom(128)
_START_S = 30.0
_REQUEST_S = 10.0
_WARM_UP = 200
_THREADS = 8
_FIGURES = ("p50_us", "p99_us", "requests_per_s_8_threads", "fired_handled_per_s")


def main() -> int:
    """Measure, print a table, and judge where told to."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--requests", type=int, default=1_000, help="sequential, each round")
    parser.add_argument("--window", type=float, default=2.0, help="seconds for each rate")
    parser.add_argument("--nvflare-python", default=sys.executable)
    parser.add_argument("--json", action="store_true", help="print the figures of each round")
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        return _serve(options.serve)
    theirs: list[dict[str, Any]] = []
    ours: list[dict[str, Any]] = []
    with _bus() as place:
        for _ in range(options.rounds):
            theirs.append(_nvflare(options))
            ours.append(_zbus(place, options))
    if options.json:
        print(json.dumps({"nvflare 2.9": theirs, "zbus": ours}))
    else:
        _report(theirs, ours)
    return 0


# -- theirs ------------------------------------------------------------------------------------


def _nvflare(options: argparse.Namespace) -> dict[str, Any]:
    script = Path(__file__).with_name("nvflare_aux.py")
    command = [options.nvflare_python, str(script), "--requests", str(options.requests)]
    run = subprocess.run(
        [*command, "--window", str(options.window)], stdout=subprocess.PIPE, check=True, text=True
    )
    figures: dict[str, Any] = json.loads(run.stdout.splitlines()[-1])
    return figures


# -- ours --------------------------------------------------------------------------------------


@contextmanager
def _bus() -> Iterator[str]:
    """A broker and the server's job as processes; their runtime directory."""
    with tempfile.TemporaryDirectory(prefix="zb") as place, ExitStack() as stack:
        environ = os.environ | {"ZBUS_RUNTIME_DIR": place}
        for command in (["-m", "zbus", "broker"], [__file__, "--serve", place]):
            process = subprocess.Popen(
                [sys.executable, *command], env=environ, stdout=subprocess.DEVNULL
            )
            stack.callback(process.wait)
            stack.callback(process.kill)
        yield place


def _serve(place: str) -> int:
    """The server's job: answers, and counts what it is told without being asked."""
    handled = 0

    def echo(topic: str, request: Shareable, fl_ctx: FLContext) -> Shareable:
        return make_reply(ReturnCode.OK)

    def note(topic: str, request: Shareable, fl_ctx: FLContext) -> Shareable:
        nonlocal handled
        handled += 1
        return make_reply(ReturnCode.OK)

    def count(topic: str, request: Shareable, fl_ctx: FLContext) -> Shareable:
        reply = make_reply(ReturnCode.OK)
        reply["handled"] = handled
        return reply

    deadline = time.monotonic() + _START_S
    while not Path(place, "backend").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    server = ServerEngine("job-1", ["site-1"], endpoint=f"ipc://{place}/backend")
    for topic, handler in (("echo", echo), ("note", note), ("count", count)):
        server.register_aux_message_handler(topic=topic, message_handle_func=handler)
    server.start_run()
    threading.Event().wait()
    return 0


def _zbus(place: str, options: argparse.Namespace) -> dict[str, Any]:
    client = ClientEngine("site-1", "job-1", endpoint=f"ipc://{place}/frontend")
    client.start_run()
    try:
        with client.new_context() as fl_ctx:
            return _figures(client, fl_ctx, options)
    finally:
        client.close(drain=1.0)


def _figures(
    client: ClientEngine, fl_ctx: FLContext, options: argparse.Namespace
) -> dict[str, Any]:
    for _ in range(_WARM_UP):
        _ask(client, fl_ctx)
    took = sorted(_timed(client, fl_ctx) for _ in range(options.requests))
    figures = {
        "p50_us": round(statistics.median(took) * 1e6),
        "p99_us": round(took[int(len(took) * 0.99)] * 1e6),
        "requests_per_s_8_threads": _rate(client, fl_ctx, options.window),
    }
    return figures | _fire(client, fl_ctx, options.window)


def _timed(client: ClientEngine, fl_ctx: FLContext) -> float:
    began = time.perf_counter()
    _ask(client, fl_ctx)
    return time.perf_counter() - began


def _ask(client: ClientEngine, fl_ctx: FLContext, topic: str = "echo") -> Shareable:
    request = Shareable()
    request["body"] = BODY
    reply: Shareable = client.send_aux_request(topic, request, _REQUEST_S, fl_ctx)
    assert reply.get_return_code() == ReturnCode.OK, reply
    return reply


def _rate(client: ClientEngine, fl_ctx: FLContext, window_s: float) -> float:
    counts = [0] * _THREADS
    end = time.monotonic() + window_s

    def ask_on(index: int) -> None:
        while time.monotonic() < end:
            _ask(client, fl_ctx)
            counts[index] += 1

    threads = [threading.Thread(target=ask_on, args=(index,)) for index in range(_THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return round(sum(counts) / window_s, 1)


def _fire(client: ClientEngine, fl_ctx: FLContext, window_s: float) -> dict[str, Any]:
    """Fire as fast as is accepted; how many were handled a second, until the last one was."""
    before = _ask(client, fl_ctx, "count")["handled"]
    sent = 0
    began = time.monotonic()
    while time.monotonic() < began + window_s:
        request = Shareable()
        request["body"] = BODY
        reply = client.fire_and_forget_aux_request("note", request, fl_ctx)
        if reply.get_return_code() == ReturnCode.OK:
            sent += 1
        else:
            time.sleep(0.001)  # the bound is reached
    while (handled := _ask(client, fl_ctx, "count")["handled"] - before) < sent:
        assert time.monotonic() < began + window_s + _START_S, "some are lost"
    rate = handled / (time.monotonic() - began)
    return {"fired_handled_per_s": round(rate, 1), "fired_lost": sent - handled}


def _report(theirs: list[dict[str, Any]], ours: list[dict[str, Any]]) -> None:
    print(f"{'an aux message, 128 B':24} {'nvflare':>12} {'zbus':>12} {'ratio':>8}")
    for figure in _FIGURES:
        one = statistics.median(run[figure] for run in theirs)
        other = statistics.median(run[figure] for run in ours)
        ratio = one / other if figure.endswith("_us") else other / one
        print(f"{figure:24} {one:12,.0f} {other:12,.0f} {ratio:7.1f}x")
    print("lost:", sum(run["fired_lost"] for run in ours), "of ours")


if __name__ == "__main__":
    sys.exit(main())
