"""The words that engines and components share: return codes, topics, keys, events, sites.

Rules of this room:

* Names and values are the API's to the letter (contract section 11): the seed era's, and what
  2.9 added to the same groups. Components compare them as text, so they are plain ``str``.
* A group is here whole or not at all; groups of FLARE's own console are not.
"""

from __future__ import annotations

__all__ = [
    "EventScope",
    "EventType",
    "FLContextKey",
    "FedEventHeader",
    "LogMessageTag",
    "ProcessType",
    "ReservedHeaderKey",
    "ReservedKey",
    "ReservedTopic",
    "ReturnCode",
    "SiteType",
]


class ReturnCode:
    """What a reply says about how it went; each value is its name."""

    OK = "OK"
    BAD_PEER_CONTEXT = "BAD_PEER_CONTEXT"
    BAD_REQUEST_DATA = "BAD_REQUEST_DATA"
    BAD_TASK_DATA = "BAD_TASK_DATA"
    COMMUNICATION_ERROR = "COMMUNICATION_ERROR"
    EARLY_TERMINATION = "EARLY_TERMINATION"
    EMPTY_RESULT = "EMPTY_RESULT"
    ERROR = "ERROR"
    EXECUTION_EXCEPTION = "EXECUTION_EXCEPTION"
    EXECUTION_RESULT_ERROR = "EXECUTION_RESULT_ERROR"
    HANDLER_EXCEPTION = "HANDLER_EXCEPTION"
    MISSING_PEER_CONTEXT = "MISSING_PEER_CONTEXT"
    MODEL_UNRECOGNIZED = "MODEL_UNRECOGNIZED"
    RUN_MISMATCH = "RUN_MISMATCH"
    SERVER_NOT_READY = "SERVER_NOT_READY"
    SERVICE_UNAVAILABLE = "SERVICE_UNAVAILABLE"
    TASK_ABORTED = "TASK_ABORTED"
    TASK_DATA_FILTER_ERROR = "TASK_DATA_FILTER_ERROR"
    TASK_RESULT_FILTER_ERROR = "TASK_RESULT_FILTER_ERROR"
    TASK_UNKNOWN = "TASK_UNKNOWN"
    TASK_UNSUPPORTED = "TASK_UNSUPPORTED"
    TIMEOUT = "TIMEOUT"
    TOPIC_UNKNOWN = "TOPIC_UNKNOWN"
    UNSAFE_JOB = "UNSAFE_JOB"
    VALIDATE_TYPE_UNKNOWN = "VALIDATE_TYPE_UNKNOWN"


class ReservedTopic:
    """Topics that runners use among themselves."""

    ABORT_ASK = "__abort_task__"
    APP_METRICS = "__app_metrics__"
    AUX_COMMAND = "__aux_command__"
    DO_TASK = "__do_task__"
    END_RUN = "__end_run__"
    JOB_HEART_BEAT = "__job_heartbeat__"
    MSG_ROOT_DELETED = "__msg_root_deleted__"
    STOP_CELLNET = "__stop_cellnet__"
    SYNC_RUNNER = "__sync_runner__"
    TASK_CHECK = "__task_check__"


class ReservedKey:
    """Keys of context properties and headers that belong to the engine."""

    APP_ROOT = "__app_root__"
    ARGS = "__args__"
    AUDIT_EVENT_ID = "__audit_event_id__"
    AUX_RUNNER = "__aux_runner__"
    CLIENT_NAME = "__client_name__"
    CLIENT_TYPE = "__client_type__"
    COOKIE_JAR = "__cookie_jar__"
    CURRENT_JOB_ID = "__current_job_id__"
    CUSTOM_PROPS = "__custom_props__"
    ENGINE = "__engine__"
    EVENT_DATA = "__event_data__"
    EVENT_ID = "__event_id__"
    EVENT_ORIGIN = "__event_origin__"
    EVENT_ORIGIN_SITE = "__event_origin_site__"
    EVENT_SCOPE = "__event_scope__"
    EXCEPTIONS = "__exceptions__"
    FATAL_SYSTEM_ERROR = "__fatal_system_error__"
    FQSN = "__fqsn__"
    FROM_RANK_NUMBER = "__from_rank_number__"
    IDENTITY_NAME = "__identity_name__"
    IS_LEAF = "__is_leaf__"
    IS_RESEND = "__is_resend__"
    JOB_DEPLOY_DETAIL = "__job_deploy_detail__"
    JOB_INFO = "__job_info__"
    JOB_IS_UNSAFE = "__job_is_unsafe__"
    JOB_META = "__job_meta__"
    JOB_PROCESS_ARGS = "__job_process_args__"
    JOB_RUN_NUMBER = "__job_run_number__"
    MANAGER = "__manager__"
    NUM_OF_PROCESSES = "__num_of_processes__"
    PEER_CTX = "__peer_ctx__"
    PROCESS_TYPE = "__process_type__"
    RANK_NUMBER = "__rank_number__"
    RC = "__rc__"
    REPLY = "__reply__"
    RUNNER = "__runner__"
    RUN_ABORT_REQUESTED = "__run_abort_requested__"
    RUN_ABORT_SIGNAL = "__run_abort_signal__"
    RUN_NUM = "__run_num__"
    SECURE_MODE = "__secure_mode__"
    SHAREABLE = "__shareable__"
    SHARED_FL_CONTEXT = "__shared_fl_context__"
    SIMULATE_MODE = "__simulate_mode__"
    TASK_DATA = "__task_data__"
    TASK_ID = "__task_id__"
    TASK_IS_READY = "__task_is_ready__"
    TASK_NAME = "__task_name__"
    TASK_RESULT = "__task_result__"
    WORKFLOW = "__workflow__"
    WORKSPACE_OBJECT = "__workspace_object__"
    WORKSPACE_ROOT = "__workspace_root__"


class FLContextKey:
    """The names under which components look properties up; most are ``ReservedKey`` values."""

    APP_ROOT = ReservedKey.APP_ROOT
    ARGS = ReservedKey.ARGS
    AUTHORIZATION_REASON = "_authorization_reason"
    AUTHORIZATION_RESULT = "_authorization_result"
    CELL_MESSAGE = "__cell_message__"
    CLIENT_CONFIG = "__client_config__"
    CLIENT_HIERARCHY = "__client_hierarchy__"
    CLIENT_NAME = ReservedKey.CLIENT_NAME
    CLIENT_REGISTER_DATA = "_client_register_data"
    CLIENT_RESOURCE_SPECS = "__client_resource_specs"
    CLIENT_SITE_CONFIG = "__client_site_config__"
    CLIENT_TOKEN = "__client_token"
    CLIENT_TYPE = ReservedKey.CLIENT_TYPE
    COMMAND_NAME = "_command_name"
    COMMUNICATION_ERROR = "Flare_communication_error__"
    COMPONENT_BUILD_ERROR = "__component_build_error__"
    COMPONENT_CONFIG = "__component_config__"
    COMPONENT_NODE = "__component_node__"
    CONFIG_CTX = "__config_ctx__"
    CURRENT_JOB_ID = ReservedKey.CURRENT_JOB_ID
    CURRENT_RUN = ReservedKey.RUN_NUM
    CUSTOM_PROPS = ReservedKey.CUSTOM_PROPS
    DISCONNECTED_CLIENT_NAME = "_disconnected_client_name"
    EFFECTIVE_JOB_SCOPE_NAME = "__effective_job_scope_name__"
    EVENT_DATA = ReservedKey.EVENT_DATA
    EVENT_ID = ReservedKey.EVENT_ID
    EVENT_ORIGIN = ReservedKey.EVENT_ORIGIN
    EVENT_ORIGIN_SITE = ReservedKey.EVENT_ORIGIN_SITE
    EVENT_PROCESSED = "__event_processed__"
    EVENT_SCOPE = ReservedKey.EVENT_SCOPE
    EXCEPTIONS = ReservedKey.EXCEPTIONS
    FATAL_SYSTEM_ERROR = ReservedKey.FATAL_SYSTEM_ERROR
    FILTER_DIRECTION = "__filter_dir__"
    FROM_RANK_NUMBER = ReservedKey.FROM_RANK_NUMBER
    IS_CLIENT_TASK_RESEND = ReservedKey.IS_RESEND
    JOB_BLOCK_REASON = "__job_block_reason"
    JOB_DEPLOY_DETAIL = ReservedKey.JOB_DEPLOY_DETAIL
    JOB_INFO = ReservedKey.JOB_INFO
    JOB_LAUNCHER = "_job_launcher"
    JOB_META = ReservedKey.JOB_META
    JOB_PARTICIPANTS = "__job_participants"
    JOB_PROCESS_ARGS = ReservedKey.JOB_PROCESS_ARGS
    JOB_RUN_NUMBER = ReservedKey.JOB_RUN_NUMBER
    JOB_SCOPE_NAME = "__job_scope_name__"
    MIN_GET_TASK_TIMEOUT = "__min_get_task_timeout__"
    NOT_READY_TO_END_RUN = "not_ready_to_end_run__"
    NUM_OF_PROCESSES = ReservedKey.NUM_OF_PROCESSES
    PEER_CONTEXT = ReservedKey.PEER_CTX
    PROCESS_TYPE = ReservedKey.PROCESS_TYPE
    RANK_NUMBER = ReservedKey.RANK_NUMBER
    RECONNECTED_CLIENT_NAME = "_reconnected_client_name"
    REPLY = ReservedKey.REPLY
    RESOURCE_CHECK_RESULT = "__resource_check_result"
    ROOT_URL = "__root_url__"
    RUNNER = ReservedKey.RUNNER
    RUN_ABORT_REQUESTED = ReservedKey.RUN_ABORT_REQUESTED
    RUN_ABORT_SIGNAL = ReservedKey.RUN_ABORT_SIGNAL
    SCOPE_OBJECT = "__scope_object__"
    SCOPE_PROPERTIES = "__scope_props__"
    SECURE_MODE = ReservedKey.SECURE_MODE
    SECURITY_ITEMS = "_security_items"
    SERVER_CONFIG = "__server_config__"
    SERVER_HOST_NAME = "__server_host_name__"
    SHAREABLE = ReservedKey.SHAREABLE
    SIMULATE_MODE = ReservedKey.SIMULATE_MODE
    SITE_NAME = "__site_name"
    SITE_OBJ = "_site_obj_"
    SNAPSHOT = "job_snapshot"
    SSID = "__ssid__"
    SUBMITTER_NAME = "_submitterName"
    SUBMITTER_ORG = "_submitterOrg"
    SUBMITTER_ROLE = "_submitterRole"
    TASK_DATA = ReservedKey.TASK_DATA
    TASK_ID = ReservedKey.TASK_ID
    TASK_NAME = ReservedKey.TASK_NAME
    TASK_RESULT = ReservedKey.TASK_RESULT
    UNAUTHENTICATED = "Flare_unauthenticated__"
    USER_NAME = "__user_name"
    USER_ORG = "__user_org"
    USER_ROLE = "__user_role"
    WORKFLOW = ReservedKey.WORKFLOW
    WORKSPACE_OBJECT = ReservedKey.WORKSPACE_OBJECT
    WORKSPACE_ROOT = ReservedKey.WORKSPACE_ROOT


class ReservedHeaderKey:
    """Keys of a Shareable's headers, and the key under which the headers stand."""

    AUDIT_EVENT_ID = ReservedKey.AUDIT_EVENT_ID
    CONTENT_TYPE = "__content_type__"
    COOKIE_JAR = ReservedKey.COOKIE_JAR
    ERROR = "__error__"
    HEADERS = "__headers__"
    MSG_ROOT_ID = "__msg_root_id__"
    MSG_ROOT_TTL = "__msg_root_ttl__"
    PASS_THROUGH = "__pass_through__"
    PEER_CTX = ReservedKey.PEER_CTX
    PEER_PROPS = "__peer_props__"
    RC = ReservedKey.RC
    REPLY_IS_LATE = "__reply_is_late__"
    TASK_ID = ReservedKey.TASK_ID
    TASK_NAME = ReservedKey.TASK_NAME
    TASK_OPERATOR = "__task_operator__"
    TOPIC = "__topic__"
    WORKFLOW = ReservedKey.WORKFLOW


class SiteType:
    """Who a target can be besides a client by its name."""

    ALL = "@ALL"
    CLIENT = "client"
    SERVER = "server"
    SERVER_PARENT = "server_parent"


class ProcessType:
    """The kinds of processes: server or client, parent or job."""

    CLIENT_JOB = "CJ"
    CLIENT_PARENT = "CP"
    SERVER_JOB = "SJ"
    SERVER_PARENT = "SP"


class EventScope:
    """Whether an event is for this process or for other sites, too."""

    FEDERATION = "federation"
    LOCAL = "local"


class FedEventHeader:
    """Headers of the Shareable that carries an event to another site."""

    DIRECTION = "_direction"
    EVENT_ID = "_event_id"
    EVENT_TYPE = "_event_type"
    ORIGIN = "_origin"
    TARGETS = "_targets"
    TIMESTAMP = "_timestamp"


class LogMessageTag:
    """Which level a log event came from."""

    CRITICAL = "log/critical"
    DEBUG = "log/debug"
    ERROR = "log/error"
    EXCEPTION = "log/exception"
    INFO = "log/info"
    LOG_RECORD = "log_record"
    WARNING = "log/warning"


class EventType:
    """The events of a system and of a run. ``FATAL_TASK_ERROR`` ended with 2.2."""

    ABORT_TASK = "_abort_task"
    ABOUT_TO_END_RUN = "_about_to_end_run"
    ABOUT_TO_START_RUN = "_about_to_start_run"
    AFTER_CHECK_CLIENT_RESOURCES = "_after_check_client_resources"
    AFTER_CLIENT_HEARTBEAT = "_after_client_heartbeat"
    AFTER_CLIENT_REGISTER = "_after_client_register"
    AFTER_JOB_LAUNCH = "_after_job_launch"
    AFTER_PROCESS_RESULT_OF_UNKNOWN_TASK = "_after_process_result_of_unknown_task"
    AFTER_PROCESS_SUBMISSION = "_after_process_submission"
    AFTER_PROCESS_TASK_REQUEST = "_after_process_task_request"
    AFTER_PULL_TASK = "_after_pull_task"
    AFTER_SEND_TASK_RESULT = "_after_send_task_result"
    AFTER_TASK_DATA_FILTER = "_after_task_data_filter"
    AFTER_TASK_EXECUTION = "_after_task_execution"
    AFTER_TASK_RESULT_FILTER = "_after_task_result_filter"
    AUTHORIZE_COMMAND_CHECK = "_authorize_command_check"
    BEFORE_BUILD_COMPONENT = "_before_build_component"
    BEFORE_CHECK_CLIENT_RESOURCES = "_before_check_client_resources"
    BEFORE_CHECK_RESOURCE_MANAGER = "_before_check_resource_manager"
    BEFORE_CLIENT_HEARTBEAT = "_before_client_heartbeat"
    BEFORE_CLIENT_REGISTER = "_before_client_register"
    BEFORE_JOB_LAUNCH = "_before_job_launch"
    BEFORE_PROCESS_RESULT_OF_UNKNOWN_TASK = "_before_process_result_of_unknown_task"
    BEFORE_PROCESS_SUBMISSION = "_before_process_submission"
    BEFORE_PROCESS_TASK_REQUEST = "_before_process_task_request"
    BEFORE_PULL_TASK = "_before_pull_task"
    BEFORE_SEND_ADMIN_COMMAND = "_before_send_admin_command"
    BEFORE_SEND_TASK_RESULT = "_before_send_task_result"
    BEFORE_TASK_DATA_FILTER = "_before_task_data_filter"
    BEFORE_TASK_EXECUTION = "_before_task_execution"
    BEFORE_TASK_RESULT_FILTER = "_before_task_result_filter"
    CHECK_END_RUN_READINESS = "_check_end_run_readiness"
    CLIENT_DISCONNECTED = "_client_disconnected"
    CLIENT_HEARTBEAT_PROCESSED = "_client_heartbeat_processed"
    CLIENT_HEARTBEAT_RECEIVED = "_client_heartbeat_received"
    CLIENT_QUIT = "_client_quit"
    CLIENT_RECONNECTED = "_client_reconnected"
    CLIENT_REGISTER_PROCESSED = "_client_register_processed"
    CLIENT_REGISTER_RECEIVED = "_client_register_received"
    CRITICAL_LOG_AVAILABLE = "_critical_log_available"
    DEBUG_LOG_AVAILABLE = "_debug_log_available"
    DEPLOY_JOB_TO_CLIENT = "_deploy_job_to_client"
    DEPLOY_JOB_TO_SERVER = "_deploy_job_to_server"
    END_RUN = "_end_run"
    END_WORKFLOW = "_end_workflow"
    ERROR_LOG_AVAILABLE = "_error_log_available"
    EXCEPTION_LOG_AVAILABLE = "_exception_log_available"
    FATAL_SYSTEM_ERROR = "_fatal_system_error"
    FATAL_TASK_ERROR = "_fatal_task_error"
    INFO_LOG_AVAILABLE = "_info_log_available"
    JOB_ABORTED = "_job_aborted"
    JOB_CANCELLED = "_job_cancelled"
    JOB_COMPLETED = "_job_completed"
    JOB_DEPLOYED = "_job_deployed"
    JOB_STARTED = "_job_started"
    POST_TASK_ASSIGNMENT_SENT = "_post_task_assignment_sent"
    POST_TASK_RESULT_RECEIVED = "_post_task_result_received"
    PRE_RUN_RESULT_AVAILABLE = "_pre_run_result_available"
    START_RUN = "_start_run"
    START_WORKFLOW = "_start_workflow"
    SUBMIT_JOB = "_submit_job"
    SWAP_IN = "_swap_in"
    SWAP_OUT = "_swap_out"
    SYSTEM_BOOTSTRAP = "_system_bootstrap"
    SYSTEM_END = "_system_end"
    SYSTEM_START = "_system_start"
    TASK_ASSIGNMENT_SENT = "_task_assignment_sent"
    TASK_RESULT_RECEIVED = "_task_result_received"
    WARNING_LOG_AVAILABLE = "_warning_log_available"
