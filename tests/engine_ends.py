"""Outcomes, fire-and-forget and ends: the same cases for zbus.engine and for nvflare."""

from __future__ import annotations

import tempfile
import threading
import time
from typing import Any

from engine_registry import case, record
from engine_sends import says

HANG_S = 0.3
PATIENCE_S = 4.0

# -- outcomes ------------------------------------------------------------------------------


def hung(sites: Any, **changed: Any) -> Any:
    """The reply of a handler that takes longer than its caller waits."""
    go_on = threading.Event()

    def handle(topic: str, request: Any, fl_ctx: Any) -> Any:
        go_on.wait(10.0)
        return sites.api.make_reply("OK")

    sites.serve("hangs", handle)
    try:
        return sites.replies(**{"topic": "hangs", "timeout": HANG_S, **changed})
    finally:
        go_on.set()


@case
def outcome__of_a_handler_that_hangs(api: Any) -> Any:
    with api.sites() as sites:
        return sites.codes(hung(sites))


@case
def outcome__of_a_handler_that_hangs_in_detail(api: Any) -> Any:
    """Beyond the code: what it was, and whether the handler ran."""
    with api.sites() as sites:
        reply = hung(sites)["server"]
        return [reply.get_header(key) for key in ("__zbus_error__", "__executed__")]


@case
def outcome__of_a_run_that_is_aborted_meanwhile(api: Any) -> Any:
    """The code, and whether it comes before the time is up."""
    with api.sites() as sites:
        fl_ctx = sites.client.new_context()
        threading.Timer(HANG_S, fl_ctx.get_run_abort_signal().trigger, (True,)).start()
        began = time.monotonic()
        try:
            codes = sites.codes(hung(sites, fl_ctx=fl_ctx, timeout=PATIENCE_S))
        finally:
            fl_ctx.get_run_abort_signal().reset()
        return codes, time.monotonic() - began < PATIENCE_S


@case
def outcome__of_one_that_is_not_ready(api: Any) -> Any:
    """Whether the code is one of the constants."""
    with api.sites() as sites:
        reply = sites.of_one_not_ready()
        return reply.get_return_code() in vars(api.ReturnCode).values()


@case
def outcome__multicast(api: Any) -> Any:
    with api.sites() as sites:
        for client in sites.clients.values():
            sites.serve("t", says(api.make_reply("OK")), at=client)
        requests = {name: sites.request() for name in sites.clients}
        fl_ctx = sites.server.new_context()
        return sites.codes(sites.server.multicast_aux_requests("t", requests, 10.0, fl_ctx))


@case
def outcome__multicast_with_an_unknown_name(api: Any) -> Any:
    with api.sites() as sites:
        sites.serve("t", says(api.make_reply("OK")))
        requests = {name: sites.request() for name in ("server", "nobody")}
        fl_ctx = sites.client.new_context()
        return sites.codes(sites.client.multicast_aux_requests("t", requests, 10.0, fl_ctx))


# -- fire-and-forget -----------------------------------------------------------------------


@case
@record("[('b', 1), ('b', 1)]", "12.10")
def forget__one_shareable_under_two_topics(api: Any) -> Any:
    """The seed era has it go out twice, both times as the last."""
    with api.sites() as sites:
        sites.serve("a")
        sites.serve("b")
        request = sites.request()
        for topic in ("a", "b"):
            sites.ask(topic=topic, request=request, timeout=0.0)
        return sorted(sites.hears(2))


@case
def forget__order(api: Any) -> Any:
    """Of two, where the first takes longer."""
    with api.sites() as sites:
        second = threading.Event()

        def handle(topic: str, request: Any, fl_ctx: Any) -> Any:
            if request["n"] == 1:
                second.wait(HANG_S)
            else:
                second.set()
            return sites.note(topic, request, fl_ctx)

        sites.serve("t", handle)
        for number in (1, 2):
            sites.ask(request=sites.request(number), timeout=0.0)
        return sites.hears(2)


@case
def forget__to_the_server(api: Any) -> Any:
    with api.sites() as sites:
        sites.serve("t")
        client = sites.client
        said = client.fire_and_forget_aux_request("t", sites.request(), client.new_context())
        return sites.codes(said), sites.hears(1)


@case
def forget__to_clients(api: Any) -> Any:
    with api.sites() as sites:
        for client in sites.clients.values():
            sites.serve("t", at=client)
        return sites.ask(sender=sites.server, timeout=0.0), sites.hears(2)


# -- ends ----------------------------------------------------------------------------------


@case
def end__abort_of_another_job(api: Any) -> Any:
    with api.sites() as sites:
        return sites.client.abort_app(job_id="another", fl_ctx=sites.client.new_context())


@case
def end__abort_without_a_runner(api: Any) -> Any:
    """Whether the run is aborted then."""
    with api.sites() as sites:
        fl_ctx = sites.client.new_context()
        signal = fl_ctx.get_run_abort_signal()
        sites.client.abort_app(job_id=fl_ctx.get_job_id(), fl_ctx=fl_ctx)
        return signal.triggered


@case
def end__fired_twice(api: Any) -> Any:
    with api.sites() as sites:
        heard: list[str] = []

        class Listener(api.FLComponent):  # type: ignore[misc]
            def handle_event(self, event_type: str, fl_ctx: Any) -> None:
                heard.append(event_type)

        sites.listen(Listener())
        for _ in range(2):
            sites.client.fire_event("_end_run", sites.client.new_context())
        return heard


@case
def end__run_ended_by_the_server(api: Any) -> Any:
    """``__end_run__`` where no runner has registered it."""
    with api.sites() as sites:
        return sites.ask(sender=sites.server, topic="__end_run__", targets=["site-1"])


@case
def end__result_of_an_unknown_task(api: Any) -> Any:
    """Whether it is said to be taken."""
    with api.sites() as sites:
        fl_ctx = sites.client.new_context()
        result = sites.request()
        result.set_header("__task_name__", "train")
        result.set_header("__task_id__", "of nobody")
        return sites.client.send_task_result(result=result, fl_ctx=fl_ctx)


@case
def end__targets_that_a_client_knows(api: Any) -> Any:
    with api.sites() as sites:
        return sites.client.validate_targets(["server", "site-2", "nobody"])


@case
def end__targets_in_capitals(api: Any) -> Any:
    with api.sites() as sites:
        return sites.client.validate_targets(["Server"])


@case
def end__targets_that_the_server_knows(api: Any) -> Any:
    """Clients, not names."""
    with api.sites() as sites:
        known, unknown = sites.server.validate_targets(["site-1", "nobody"])
        return [client.name for client in known], unknown


@case
def end__a_cell(api: Any) -> Any:
    """Whether there is one."""
    with api.sites() as sites:
        return sites.client.get_cell() is not None


@case
def end__start_client_job(api: Any) -> Any:
    with api.sites() as sites:
        server = sites.server
        return server.start_client_job(job=None, client_sites={}, fl_ctx=server.new_context())


@case
def end__check_client_resources(api: Any) -> Any:
    with api.sites() as sites:
        server = sites.server
        return server.check_client_resources(
            job=None, resource_reqs={}, fl_ctx=server.new_context()
        )


@case
def end__cancel_client_resources(api: Any) -> Any:
    with api.sites() as sites:
        server = sites.server
        return server.cancel_client_resources(
            resource_check_results={}, resource_reqs={}, fl_ctx=server.new_context()
        )


@case
def end__state_of_components(api: Any) -> Any:
    """Where it is once it was persisted."""
    with api.sites() as sites:
        server = sites.server
        server.persist_components(fl_ctx=server.new_context(), completed=False)
        return getattr(server, "snapshot", "elsewhere, or nowhere")


# -- the workspace -------------------------------------------------------------------------


@case
def workspace__of_a_bare_directory(api: Any) -> Any:
    with tempfile.TemporaryDirectory() as root:
        return bool(api.Workspace(root, "site-1").get_run_dir("job"))
