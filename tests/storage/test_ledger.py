"""What the ledger promises: a row per instance and destination, and what a destination holds stays done."""

from __future__ import annotations

import pytest

from storage import ledger
from storage.database import Database
from storage.errors import IllegalTransition
from storage.ledger import LedgerState, Result
from tests.storage.builders_storage import NOW, later, made_uids, planned_job


def test_what_is_unsent_comes_in_instance_order_and_shrinks_with_each_answer(database: Database) -> None:
    with database.begin() as connection:
        job = planned_job(connection, instances=12)
        uids = made_uids(job, 12)
        assert ledger.unsent(connection, job.id, "pacs") == uids
        results = [
            Result(uids[0], LedgerState.DONE, 0x0000),
            Result(uids[5], LedgerState.WARNING, 0xB000),
            Result(uids[7], LedgerState.REJECTED, 0xC000),
            Result(uids[9], LedgerState.WAITING, 0xA700),
        ]
        ledger.record_results(connection, job.id, "pacs", results, now=NOW)
        assert ledger.unsent(connection, job.id, "pacs") == [uid for n, uid in enumerate(uids) if n not in (0, 5, 7)]


@pytest.mark.parametrize("held", [LedgerState.DONE, LedgerState.WARNING])
def test_what_a_destination_holds_stays_done_whatever_a_later_answer_says(
    database: Database, held: LedgerState
) -> None:
    with database.begin() as connection:
        job = planned_job(connection, instances=1)
        uid = made_uids(job, 1)[0]
        ledger.record_results(connection, job.id, "pacs", [Result(uid, held, 0)], now=NOW)
        later_answer = Result(uid, LedgerState.REJECTED, 0xC000)
        ledger.record_results(connection, job.id, "pacs", [later_answer], now=later(1))
        assert ledger.ledger_states(connection, job.id, "pacs") == {uid: held}


def test_an_answer_for_an_instance_that_was_not_sent_is_a_fault(database: Database) -> None:
    with database.begin() as connection:
        job = planned_job(connection)
        for destination, uid in (("pacs", "1.2.none"), ("elsewhere", made_uids(job)[0])):
            with pytest.raises(LookupError, match="has no instance"):
                ledger.record_results(connection, job.id, destination, [Result(uid, LedgerState.DONE, 0)], now=NOW)


def test_a_job_cannot_have_made_nothing(database: Database) -> None:
    with database.begin() as connection:
        job = planned_job(connection)
        ledger.keep_results(connection, job.id, made_uids(job))
        with pytest.raises(IllegalTransition, match="made no instance"):
            ledger.keep_results(connection, job.id, [])


def test_a_job_done_anew_with_another_result_sends_the_new_one_whole(database: Database) -> None:
    with database.begin() as connection:
        job = planned_job(connection)
        ledger.record_results(connection, job.id, "pacs", [Result(made_uids(job)[0], LedgerState.DONE, 0)], now=NOW)
        ledger.keep_results(connection, job.id, ["1.7.1", "1.7.2"])
        ledger.open_deliveries(connection, job.id, now=NOW)
        assert ledger.made_instances(connection, job.id) == ["1.7.1", "1.7.2"]
        assert ledger.unsent(connection, job.id, "pacs") == ["1.7.1", "1.7.2"]


def test_opening_again_adds_only_what_is_missing(database: Database) -> None:
    with database.begin() as connection:
        job = planned_job(connection)
        ledger.record_results(connection, job.id, "pacs", [Result(made_uids(job)[0], LedgerState.DONE, 0)], now=NOW)
        ledger.open_deliveries(connection, job.id, now=later(1))
        assert ledger.unsent(connection, job.id, "pacs") == made_uids(job)[1:]
