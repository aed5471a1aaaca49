"""The words have the values that components and peers compare them with."""

from __future__ import annotations

from zbus.engine import constants
from zbus.engine.constants import EventType, ReservedTopic, ReturnCode, SiteType

SEED_CODES = (
    "OK BAD_PEER_CONTEXT BAD_REQUEST_DATA BAD_TASK_DATA COMMUNICATION_ERROR ERROR"
    " EXECUTION_EXCEPTION EXECUTION_RESULT_ERROR HANDLER_EXCEPTION MISSING_PEER_CONTEXT"
    " RUN_MISMATCH TASK_ABORTED TASK_DATA_FILTER_ERROR TASK_RESULT_FILTER_ERROR TASK_UNKNOWN"
    " TASK_UNSUPPORTED TOPIC_UNKNOWN MODEL_UNRECOGNIZED VALIDATE_TYPE_UNKNOWN EMPTY_RESULT"
    " SERVER_NOT_READY"
).split()
LATER_CODES = "TIMEOUT UNSAFE_JOB EARLY_TERMINATION SERVICE_UNAVAILABLE".split()


def test_return_codes_are_their_names() -> None:
    """The seed era's codes, and the four that 2.9 added; the value of each is its name."""
    codes = {name: value for name, value in vars(ReturnCode).items() if name[0] != "_"}
    assert codes == {name: name for name in SEED_CODES + LATER_CODES}


def test_the_reserved_topics_and_sites_are_the_contracts() -> None:
    """What runners and targets are called on every version."""
    assert ReservedTopic.END_RUN == "__end_run__"
    assert ReservedTopic.ABORT_ASK == "__abort_task__"
    assert ReservedTopic.AUX_COMMAND == "__aux_command__"
    sites = {value for name, value in vars(SiteType).items() if name[0] != "_"}
    assert sites == {"server", "server_parent", "client", "@ALL"}
    assert EventType.FATAL_TASK_ERROR == "_fatal_task_error"


def test_no_value_stands_twice_in_a_group() -> None:
    """Two words of a group never mean the same."""
    for name in constants.__all__:
        values = [value for key, value in vars(getattr(constants, name)).items() if key[0] != "_"]
        assert len(values) == len(set(values)), name
        assert all(type(value) is str for value in values)
