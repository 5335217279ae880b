"""Every status that the node answers, and what follows from every status that it is answered."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from dicomnode import answer_retrieve, answering, commit, commitment_service, query_retrieve_scp, receive
from dicomnode.conformance.tables import table
from dicomnode.errors import DatasetUnfit, InstanceTooLong
from dicomnode.outgoing import ledger_state
from dicomnode.service import NOT_AUTHORISED
from storage import references
from storage.errors import InstanceConflict, StorageFull
from storage.ledger import LedgerState

WHY: Mapping[type[Exception], str] = {
    StorageFull: "the disk does not take it",
    InstanceTooLong: "it is longer than `maximum_instance_bytes`",
    InstanceConflict: "the SOP Instance UID is here with another data set; the first copy is kept",
    DatasetUnfit: "the data set lacks a UID that we need, or names another instance than its command",
}
"""Each fault of receive.FAULT_STATUS in words."""
FOLLOWS: Mapping[LedgerState, str] = {
    LedgerState.DONE: "done",
    LedgerState.WARNING: "done, with a warning in the ledger",
    LedgerState.WAITING: "sent again later",
    LedgerState.REJECTED: "this instance is rejected: the others go on, the job fails, an operator looks and requeues",
}

STORE = "C-STORE"
FIND_ANSWERS: Mapping[int, str] = {
    answering.PENDING: "one entity of the level; every key asked for is supported",
    answering.PENDING_WITH_IGNORED_KEYS: "one entity of the level; a key that is not supported is ignored and comes "
    "back empty",
    answering.SUCCESS: "there are no more",
    answering.CANCELLED: "the peer cancelled",
    NOT_AUTHORISED: 'the peer may not "query"',
    query_retrieve_scp.SOP_CLASS_NOT_SUPPORTED: "the command names another SOP class than its presentation context",
    answering.DOES_NOT_MATCH: "the identifier breaks a rule of the information model",
    answering.OUT_OF_RESOURCES: "the database is away",
    answering.UNABLE: "any other fault",
}
RETRIEVE_ANSWERS: Mapping[int, str] = {
    answering.PENDING: "sub-operations go on; their counts",
    answering.SUCCESS: "every instance was taken",
    answer_retrieve.SOME_FAILED: "some were not taken, or with a warning; the failed SOP Instance UIDs are listed",
    answer_retrieve.CANNOT_SEND: "none was taken",
    answer_retrieve.CANNOT_COUNT: f"more than {answer_retrieve.MOST_INSTANCES} instances",
    answer_retrieve.UNKNOWN_DESTINATION: "C-MOVE: no reachable peer of that AE title, or `move_to` does not allow it",
    answering.CANCELLED: "the peer cancelled",
    NOT_AUTHORISED: 'the peer may not "retrieve"',
    query_retrieve_scp.SOP_CLASS_NOT_SUPPORTED: "the command names another SOP class than its presentation context",
    answering.DOES_NOT_MATCH: "the identifier breaks a rule of the information model",
    answering.OUT_OF_RESOURCES: "the database is away",
    answering.UNABLE: "any other fault",
}
COMMITMENT_ANSWERS: Mapping[int, str] = {
    commit.SUCCESS: "the request is kept, and a report follows; or: the report is taken",
    NOT_AUTHORISED: 'the peer may not "store"',
    commitment_service.NO_SUCH_ACTION: "another action than Request Storage Commitment",
    references.NO_SUCH_INSTANCE: "another instance than the well-known one",
    commit.INVALID_ARGUMENT: "the action or event information cannot be read, or nobody asked for it",
    references.PROCESSING_FAILURE: "the transaction UID was used for other instances",
    references.OUT_OF_RESOURCES: "the database is away",
}
COMMITMENT_FAILURES: Mapping[int, str] = {
    references.PROCESSING_FAILURE: "the instance cannot be read",
    references.NO_SUCH_INSTANCE: "the instance is not here",
    references.CLASS_INSTANCE_CONFLICT: "the instance is here with another SOP class",
    references.CLASS_NOT_SUPPORTED: "the SOP class is none that the node takes",
    references.OUT_OF_RESOURCES: "too little room on the disk",
}
NO_ANSWER = (
    ("no presentation context for the SOP class", FOLLOWS[LedgerState.REJECTED]),
    (
        "no association",
        "nothing more is tried there until a C-ECHO is answered (asked after `retry_first_s`, doubling to "
        "`retry_longest_s`); after `give_up_after_days` the job fails",
    ),
    (
        "association broken or without answer",
        "what is missing is sent again after `retry_first_s`, doubling to `retry_longest_s`, for `give_up_after_days`",
    ),
)


def hexadecimal(status: int) -> str:
    """0xA700."""
    return f"0x{status:04X}"


def store_answers() -> str:
    """C-STORE as SCP."""
    rows = [
        (receive.SUCCESS, "the instance is durable on disk, or the same with the same data set is here already"),
        (NOT_AUTHORISED, 'the peer may not "store"'),
        *((status, WHY[kind]) for kind, status in receive.FAULT_STATUS.items()),
        (receive.CANNOT_UNDERSTAND, "any other fault"),
    ]
    other = receive.CONFLICT_STATUS["success"]
    words = f'With `conflict_status = "success"` a conflict is answered {hexadecimal(other)}.\n'
    return _shown(rows) + "\n" + words


def store_answered() -> str:
    """C-STORE as SCU: all 65,536 statuses, by what follows."""
    states = [ledger_state(status) for status in range(0x10000)]
    by_state: dict[LedgerState, list[str]] = {state: [] for state in FOLLOWS}
    for low, high, state in _spans(states):
        by_state[state].append(hexadecimal(low) if low == high else f"{hexadecimal(low)} to {hexadecimal(high)}")
    by_state[LedgerState.REJECTED] = ["any other"]
    rows = [(", ".join(found), FOLLOWS[state]) for state, found in by_state.items()]
    return table(("status", "what follows"), [*rows, *NO_ANSWER])


def answers(statuses: Mapping[int, str]) -> str:
    """The statuses of one service."""
    return _shown(statuses.items())


def _spans(states: list[LedgerState]) -> Iterator[tuple[int, int, LedgerState]]:
    """First and last of each run of statuses that mean the same."""
    first = 0
    for status in range(1, len(states) + 1):
        if status == len(states) or states[status] is not states[first]:
            yield first, status - 1, states[first]
            first = status


def _shown(rows: Iterable[tuple[int, str]]) -> str:
    return table(("status", "when"), [(hexadecimal(status), words) for status, words in sorted(rows)])
