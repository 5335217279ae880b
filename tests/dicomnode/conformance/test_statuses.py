"""The tables of statuses say what the code answers and does: for all statuses, by asking it."""

from __future__ import annotations

from dicomnode import answering, receive
from dicomnode.conformance import statuses
from dicomnode.outgoing import ledger_state
from storage.ledger import LedgerState


def test_every_fault_that_becomes_a_store_status_is_told_with_it() -> None:
    text = statuses.store_answers()
    assert {*statuses.WHY} == {*receive.FAULT_STATUS}
    for kind, status in receive.FAULT_STATUS.items():
        assert f"| 0x{status:04X} | {statuses.WHY[kind]} |" in text


def test_what_follows_each_status_of_a_peer_is_what_sending_does() -> None:
    lines = {line.split(" | ")[1]: line.split(" | ")[0] for line in statuses.store_answered().splitlines()[2:6]}
    for state, words in statuses.FOLLOWS.items():
        told = lines[words + " |"] if words + " |" in lines else lines[words]
        for status in (0x0000, 0x0001, 0x0107, 0x0111, 0x0116, 0x0122, 0xA700, 0xA7FF, 0xA900, 0xB000, 0xB007, 0xC000):
            if ledger_state(status) is state and state is not LedgerState.REJECTED:
                assert _is_in(status, told), (hex(status), told)


def _is_in(status: int, told: str) -> bool:
    spans = [part.split(" to ") for part in told.strip("| ").split(", ")]
    return any(int(span[0], 16) <= status <= int(span[-1], 16) for span in spans)


def test_every_status_that_ends_a_query_or_goes_on_with_it_is_told() -> None:
    shared = {answering.PENDING, answering.CANCELLED, answering.SUCCESS, answering.OUT_OF_RESOURCES, answering.UNABLE}
    assert shared | {answering.PENDING_WITH_IGNORED_KEYS, answering.DOES_NOT_MATCH} <= {*statuses.FIND_ANSWERS}
    assert shared | {answering.DOES_NOT_MATCH} <= {*statuses.RETRIEVE_ANSWERS}
    assert "| 0xFF00 |" in statuses.answers(statuses.FIND_ANSWERS)
