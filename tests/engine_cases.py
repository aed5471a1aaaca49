"""Types, components and builder: the same cases for zbus.engine and for nvflare."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from engine_parts import BOX, CONFIGS, STRICT
from engine_registry import CASES, RECORDS, Record, case, record

# -- Shareable -----------------------------------------------------------------------------

HEADERS = "__headers__"


@case
def shareable__fresh(api: Any) -> Any:
    return dict(api.Shareable())


@case
def shareable__with_content(api: Any) -> Any:
    return dict(api.Shareable({"a": 1, HEADERS: {"b": 2}}))


@case
def shareable__return_code(api: Any) -> Any:
    one, other = api.Shareable(), api.make_reply("ERROR")
    return one.get_return_code(), one.get_return_code("?"), other.get_return_code()


@case
def shareable__headers_that_are_no_dict(api: Any) -> Any:
    one = api.Shareable()
    one[HEADERS] = [1]
    return one.get_header("a")


@case
def shareable__set_into_headers_that_are_no_dict(api: Any) -> Any:
    one = api.Shareable()
    one[HEADERS] = [1]
    one.set_header("a", 1)


@case
def shareable__cleared(api: Any) -> Any:
    one = api.Shareable({"a": 1})
    one.clear()
    before = one.get_header("a", "default"), one.get_return_code(), one.get_cookie_jar()
    one.set_header("a", 1)
    return before, dict(one)


@case
def shareable__cookies(api: Any) -> Any:
    one = api.Shareable()
    before = one.get_cookie("a", "none"), one.get_cookie_jar()
    one.add_cookie("a", 1)
    one.add_cookie("b", [2])
    jar = dict(one.get_cookie_jar())
    one.set_cookie_jar({"c": 3})
    return before, jar, one.get_cookie("a"), one.get_cookie("c"), dict(one)


@case
def shareable__peer_props(api: Any) -> Any:
    one = api.Shareable()
    before = one.get_peer_props(), one.get_peer_prop("a", "none")
    one.set_peer_props({"a": 1})
    after = one.get_peer_props(), one.get_peer_prop("a", 0), one.get_peer_prop("b", 0)
    one.set_peer_props([])
    return before, after, one.get_peer_prop("a", "none")


@case
def shareable__peer_context(api: Any) -> Any:
    one = api.Shareable()
    one.set_peer_context("peer")
    return api.Shareable().get_peer_context(), one.get_peer_context(), dict(one)


@case
def shareable__reply_with_headers(api: Any) -> Any:
    return dict(api.make_reply("OK", {"a": 1})), dict(api.make_reply("OK", [("a", 1)]))


@case
def shareable__copy(api: Any) -> Any:
    one = api.Shareable({"a": [1]})
    one.set_header("deep", [1])
    one.set_header("not", 1)
    twin = api.make_copy(one, exclude_headers=["not"])
    twin.get_header("deep").append(2)
    twin["a"].append(2)
    return dict(one), dict(twin), type(twin) is api.Shareable


# -- FLContext -----------------------------------------------------------------------------


@case
def context__flags_stay(api: Any) -> Any:
    one = api.FLContext()
    said = [one.set_prop("a", 1), one.set_prop("a", 2), one.set_prop("a", 3, private=False)]
    said += [one.set_prop("a", 4, sticky=False), one.set_prop("a", 5, private=True, sticky=True)]
    return said, one.get_prop("a"), one.get_prop_detail("a"), one.get_prop_detail("b")


@case
def context__key_that_is_no_text(api: Any) -> Any:
    return api.FLContext().set_prop(1, 1)


@case
def context__none_is_a_value(api: Any) -> Any:
    one = api.FLContext()
    one.set_prop("a", None)
    return one.get_prop("a", "default"), one.get_prop("b", "default"), one.get_prop("b")


@case
def context__removing(api: Any) -> Any:
    one = api.FLContext()
    for key in ("a", "__b", "__c"):
        one.set_prop(key, 1)
        one.remove_prop(key, force_removal=key == "__c")
    one.remove_prop("nothing")
    one.remove_prop(1)
    return one.get_prop_keys(), one.set_prop("a", 2, private=False, sticky=False)


@case
def context__public_props(api: Any) -> Any:
    one = api.FLContext()
    one.set_prop("a", 1, private=False, sticky=False)
    one.set_prop("b", 2, private=False, sticky=True)
    one.set_prop("c", 3, private=True, sticky=False)
    before = one.get_all_public_props(), [one.public_key_exists(key) for key in "abcd"]
    one.set_public_props({"d": 4})
    return before, one.get_all_public_props(), one.get_prop("c"), one.get_prop_detail("d")


@case
@record("True", "9")
def context__set_public_props_makes_stickers(api: Any) -> Any:
    one = api.FLContext()
    one.set_public_props({"a": 1})
    return one.get_prop_detail("a")["sticky"]


@case
def context__names_of_an_empty_one(api: Any) -> Any:
    one = api.FLContext()
    return (
        one.get_engine(), one.get_engine("no"), one.get_job_id(), one.get_job_id("no"),
        one.get_identity_name(), one.get_identity_name("no"), one.get_run_abort_signal(),
        one.get_peer_context(), one.get_process_type(), one.is_job_unsafe(), str(one),
    )  # fmt: skip


@case
def context__no_engine_no_workspace(api: Any) -> Any:
    return api.FLContext().get_workspace()


@case
def context__peer(api: Any) -> Any:
    one = api.FLContext()
    one.set_peer_context("peer")
    return one.get_peer_context(), one.get_prop_detail("__peer_ctx__"), one.get_all_public_props()


@case
def context__custom_props(api: Any) -> Any:
    one = api.FLContext()
    before = one.get_custom_prop("a", "none")
    one.set_custom_prop("a", 1)
    return before, one.get_custom_prop("a"), one.get_custom_prop("b", 0), one.get_prop_keys()


@case
def context__made_by_a_manager(api: Any) -> Any:
    manager = api.FLContextManager("engine", "site-1", "job-1", {"p": 1}, {"q": 2})
    one = manager.new_context()
    names = one.get_engine(), one.get_job_id(), one.get_identity_name()
    details = [one.get_prop_detail(key) for key in ("p", "q", "__run_num__", "__identity_name__")]
    return names, details, one.get_all_public_props(), sorted(one.get_prop_keys())


@case
def context__made_by_an_empty_manager(api: Any) -> Any:
    one = api.FLContextManager().new_context()
    return one.get_engine("no"), one.get_job_id("no"), one.get_identity_name("no")


@case
@record("((None, None), 1, 'a')", "9")
def context__stickers_are_live(api: Any) -> Any:
    manager = api.FLContextManager()
    one, other = manager.new_context(), manager.new_context()
    one.set_prop("a", 1)
    seen = other.get_prop("a"), manager.new_context().get_prop("a")
    other.set_prop("a", 2)
    return seen, one.get_prop("a"), other.get_prop_keys()[-1]


@case
def context__stickers_keep_their_flags(api: Any) -> Any:
    manager = api.FLContextManager()
    one, other = manager.new_context(), manager.new_context()
    one.set_prop("a", 1)
    refused = other.set_prop("a", 2, private=False, sticky=True)
    alone = other.set_prop("a", 3, private=True, sticky=False)
    return refused, alone, one.get_prop("a"), other.get_prop("a")


@case
def context__what_is_not_sticky_stays(api: Any) -> Any:
    manager = api.FLContextManager()
    one = manager.new_context()
    one.set_prop("a", 1, sticky=False)
    one.put("b", 2, private=False, sticky=True)
    new = manager.new_context()
    return new.get_prop("a"), new.get_prop("b"), one.get_prop("b")


@case
def context__clone(api: Any) -> Any:
    one = api.FLContext()
    one.set_prop("a", [1])
    twin = one.clone()
    twin.set_prop("b", 2)
    twin.get_prop("a").append(2)
    with one as same:
        return one.get_prop("a"), one.get_prop("b"), same is one, one.sync_sticky()


# -- signals, tasks, clients, workspaces ---------------------------------------------------


@case
def signal__life(api: Any) -> Any:
    one = api.Signal()
    said = [(one.triggered, one.value, one.trigger_time)]
    one.trigger("stop")
    said.append((one.triggered, one.value, type(one.trigger_time)))
    one.reset("again")
    return [*said, (one.triggered, one.value, one.trigger_time)]


@case
def signal__parent(api: Any) -> Any:
    parent = api.Signal()
    child = api.Signal(parent)
    before = child.triggered
    parent.trigger(True)
    return before, child.triggered, child.value


@case
def signal__time_is_the_wall_clock(api: Any) -> Any:
    one = api.Signal()
    one.trigger(True)
    return abs(one.trigger_time - time.time()) < 3_600


@case
def task__assignment(api: Any) -> Any:
    one = api.TaskAssignment("train", "7", api.Shareable())
    return one.name, one.task_id, dict(one.data)


@case
def task__receive_time(api: Any) -> Any:
    return type(api.TaskAssignment("train", "7", api.Shareable()).receive_time)


@case
def task__client(api: Any) -> Any:
    one = api.Client("site-1", "token")
    one.set_prop("a", 1)
    before = one.name, one.token, one.get_token(), one.get_prop("a"), one.get_prop("b", 0)
    one.set_token("other")
    return before, one.get_token()


@case
def task__client_connect_time(api: Any) -> Any:
    return type(api.Client("site-1", "token").last_connect_time)


# -- components and events -----------------------------------------------------------------


class Engine:
    """Fires events at some components, and remembers them."""

    def __init__(self, api: Any, *components: Any) -> None:
        self.fired: list[tuple[str, Any, Any]] = []
        self._api, self._components = api, components

    def fire_event(self, event_type: str, fl_ctx: Any) -> None:
        about = [fl_ctx.get_prop(f"__event_{key}__") for key in ("data", "scope")]
        self.fired.append((event_type, *about))
        self._api.fire_event(event_type, list(self._components), fl_ctx)


def context_of(api: Any, engine: Any = None) -> Any:
    return api.FLContextManager(engine, "site-1", "job-1").new_context()


def listener(api: Any, hear: Callable[[str, Any], Any]) -> Any:
    class Listener(api.FLComponent):  # type: ignore[misc]
        def handle_event(self, event_type: str, fl_ctx: Any) -> None:
            hear(event_type, fl_ctx)

    return Listener()


def fail(_event_type: str, _fl_ctx: Any) -> None:
    raise LookupError("no luck")


@case
def component__bare(api: Any) -> Any:
    class Forgetful(api.FLComponent):  # type: ignore[misc]
        def __init__(self) -> None:
            pass

    one, context = Forgetful(), api.FLContext()
    return (
        one.name, one.handle_event("e", context), dict(one.get_event_handlers()),
        one.get_persist_state(context), one.restore({}, context), one.log_info(context, "text"),
    )  # fmt: skip


@case
def component__event_type_that_is_no_text(api: Any) -> Any:
    api.FLComponent().fire_event(1, api.FLContext())


@case
def component__event_type_that_is_empty(api: Any) -> Any:
    api.FLComponent().fire_event("", api.FLContext())


@case
def component__context_that_is_none(api: Any) -> Any:
    api.FLComponent().fire_event("e", {})


@case
def component__fed_event_with_no_shareable(api: Any) -> Any:
    api.FLComponent().fire_fed_event("e", {}, api.FLContext())


@case
def component__fires_without_engine(api: Any) -> Any:
    return api.FLComponent().fire_event("e", api.FLContext())


@case
def component__fires(api: Any) -> Any:
    engine = Engine(api)
    one, context = api.FLComponent(), context_of(api, engine)
    one.fire_event("e", context)
    one.fire_event_with_data("f", context, "key", 1)
    one.fire_fed_event("g", api.Shareable(), context, targets=["site-2"])
    one.system_panic("reason", context)
    return engine.fired, context.get_prop("key", "none"), context.get_prop("__event_origin__")


@case
def component__task_panic(api: Any) -> Any:
    engine = Engine(api)
    api.FLComponent().task_panic("reason", context_of(api, engine))
    return engine.fired


@case
def component__log_events(api: Any) -> Any:
    engine = Engine(api)
    one, context = api.FLComponent(), context_of(api, engine)
    for level in "debug info warning error critical exception".split():
        getattr(one, f"log_{level}")(context, "text")
        getattr(one, f"log_{level}")(context, "text", fire_event=True)
        getattr(one, f"log_{level}")(context, "text", fire_event=False)
    return [event for event, _, _ in engine.fired]


@case
def component__data_of_a_log_event(api: Any) -> Any:
    engine = Engine(api)
    api.FLComponent().log_error(context_of(api, engine), "text")
    _, said, _ = engine.fired[0]
    return type(said) is api.Shareable, sorted(map(str, said))


@case
def component__registered_handlers(api: Any) -> Any:
    told: list[Any] = []

    def hear(event_type: str, _fl_ctx: Any, **options: Any) -> None:
        told.append((event_type, options))

    one = listener(api, lambda event_type, _fl_ctx: told.append(event_type))
    one.register_event_handler(["a", "b"], hear, x=1)
    one.register_event_handler("a", hear, x=2)
    for event in "abc":
        api.fire_event(event, [one], api.FLContext())
    return told


@case
def component__registers_for_a_number(api: Any) -> Any:
    api.FLComponent().register_event_handler(1, print)


@case
def component__registers_what_cannot_be_called(api: Any) -> Any:
    api.FLComponent().register_event_handler("a", 1)


@case
def events__order_and_failures(api: Any) -> Any:
    told: list[Any] = []
    first = listener(api, lambda event, _: told.append((1, event)))
    last = listener(api, lambda event, _: told.append((3, event)))
    context = api.FLContext()
    api.fire_event("e", [first, listener(api, fail), last], context)
    said = context.get_prop("__exceptions__")
    return told, {name: type(error).__name__ for name, error in said.items()}


@case
def events__what_is_no_component(api: Any) -> Any:
    api.fire_event("e", ["text"], api.FLContext())


@case
def events__nobody(api: Any) -> Any:
    return api.fire_event("e", [], api.FLContext()), api.fire_event("e", None, api.FLContext())


@case
def events__an_exit_goes_through(api: Any) -> Any:
    api.fire_event("e", [listener(api, lambda _, __: sys.exit(3))], api.FLContext())


@case
def events__depth(api: Any) -> Any:
    depth = 0
    error = ""

    def again(event: str, context: Any) -> None:
        nonlocal depth, error
        depth += 1
        try:
            api.fire_event(event, [one], context)
        except RuntimeError as refused:
            error = type(refused).__name__

    one, context = listener(api, again), api.FLContext()
    api.fire_event("e", [one], context)
    return depth, error


@case
def events__depth_after_a_refusal(api: Any) -> Any:
    context = api.FLContext()
    for _ in range(30):
        with contextlib.suppress(TypeError):
            api.fire_event("e", ["text"], context)
    return api.fire_event("e", [], context)


@case
def events__keys_are_set_anew(api: Any) -> Any:
    told: list[Any] = []

    def nest(event: str, context: Any) -> None:
        if event == "outer":
            context.set_prop("__event_data__", "inner", private=True, sticky=False)
            api.fire_event("inner", [last], context)

    def hear(event: str, context: Any) -> None:
        told.append((event, context.get_prop("__event_data__"), context.get_prop("__event_id__")))

    last = listener(api, hear)
    context = api.FLContext()
    context.set_prop("__event_data__", "outer", private=True, sticky=False)
    api.fire_event("outer", [listener(api, nest), last], context)
    return [(event, said) for event, said, _ in told], told[0][2] != told[1][2]


# -- the builder ---------------------------------------------------------------------------


def _add_configs() -> None:
    for name, config in CONFIGS.items():
        CASES[f"builder.{name}"] = partial(built, config)


def built(config: Any, api: Any) -> Any:
    said = api.build(json.loads(json.dumps(config)))
    return type(said).__name__ if type(said).__name__ == "Popen" else said


_add_configs()


@case
def builder__callers_dict(api: Any) -> Any:
    config = {"path": BOX, "args": {"a": dict(STRICT), "b": {"c": []}}}
    one, other = api.build(config), api.build(config)
    return repr(config["args"]), [one.kept[key] is other.kept[key] for key in "ab"]


# -- the codes -----------------------------------------------------------------------------

OF_THE_SEED = (
    "OK BAD_PEER_CONTEXT BAD_REQUEST_DATA BAD_TASK_DATA COMMUNICATION_ERROR ERROR"
    " EXECUTION_EXCEPTION EXECUTION_RESULT_ERROR HANDLER_EXCEPTION MISSING_PEER_CONTEXT"
    " RUN_MISMATCH TASK_ABORTED TASK_DATA_FILTER_ERROR TASK_RESULT_FILTER_ERROR TASK_UNKNOWN"
    " TASK_UNSUPPORTED TOPIC_UNKNOWN MODEL_UNRECOGNIZED VALIDATE_TYPE_UNKNOWN EMPTY_RESULT"
    " SERVER_NOT_READY"
)
RECORDS["constants.ReturnCode"] = Record(
    repr({name: name for name in sorted(OF_THE_SEED.split())}), "11"
)
