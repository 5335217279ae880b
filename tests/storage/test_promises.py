"""What a peer asks us to keep is remembered until it was told, and longer."""

from __future__ import annotations

import sqlalchemy as sa

from storage import audit, catalog, promises
from storage.database import Database
from storage.promises import PromiseState
from storage.references import Reference
from storage.schema import instances
from tests.storage.builders_storage import NOW, SERIES, instance, later

CT = "1.2.840.10008.5.1.4.1.1.2"
ASKED = [Reference(CT, f"{SERIES}.{number}") for number in (2, 1, 3)]


def opened(database: Database, references: list[Reference] = ASKED, *, peer: str = "scanner", at: float = 0) -> object:
    with database.begin() as connection:
        return promises.open_promise(connection, peer, "2.25.7", references, report_at=later(at + 1), now=later(at))


def test_a_request_is_due_in_its_order_until_the_peer_was_told(database: Database) -> None:
    opened(database)
    with database.begin() as connection:
        assert promises.due_promises(connection, NOW) == []
        [due] = promises.due_promises(connection, later(1))
        assert promises.promised(connection, due.id) == ASKED and promises.open_peers(connection) == {"scanner"}
        promises.postpone_promise(connection, due, reason="refused", next_try_at=later(31))
        assert promises.due_promises(connection, later(30)) == []
        [again] = promises.due_promises(connection, later(31))
        assert (again.attempts, again.reason) == (1, "refused")
        promises.finish_promise(connection, again, now=later(32))
        [told] = promises.list_promises(connection)
        assert (told.state, told.attempts, told.reported_at) == (PromiseState.REPORTED, 2, later(32))
        assert [one.event for one in audit.entries(connection)] == ["commitment wanted", "commitment given"]
        assert promises.open_peers(connection) == set()


def test_what_was_found_missing_is_told_and_looked_at_anew_the_next_time(database: Database) -> None:
    opened(database)
    with database.begin() as connection:
        [due] = promises.due_promises(connection, later(1))
        promises.record_check(connection, due.id, {f"{SERIES}.1": 0x0112, f"{SERIES}.3": 0x0119})
        assert promises.failures(connection, due.id) == {f"{SERIES}.1": 0x0112, f"{SERIES}.3": 0x0119}
        promises.record_check(connection, due.id, {f"{SERIES}.1": 0x0112})
        promises.finish_promise(connection, due, now=NOW)
        last = audit.entries(connection)[-1]
        assert (last.event, last.details["committed"]) == ("commitment refused", 2)
        assert last.details["reasons"] == {f"{SERIES}.1": "0x0112"}


def test_the_same_request_again_is_told_again_and_another_under_its_uid_is_refused(database: Database) -> None:
    opened(database)
    with database.begin() as connection:
        promises.finish_promise(connection, promises.get_promise(connection, 1), now=later(5))
    opened(database, list(reversed(ASKED)), at=10)
    with database.begin() as connection:
        [due] = promises.due_promises(connection, later(11))
        assert (due.id, due.asked_at) == (1, later(10))
    assert opened(database, ASKED[:1]) is None
    assert opened(database, ASKED[:1], peer="other") is not None


def test_what_comes_of_a_try_changes_nothing_of_a_request_that_was_made_again_meanwhile(database: Database) -> None:
    opened(database)
    with database.begin() as connection:
        [tried] = promises.due_promises(connection, later(1))
    opened(database, at=10)
    with database.begin() as connection:
        promises.postpone_promise(connection, tried, reason="away", next_try_at=later(600))
        promises.abandon_promise(connection, tried, reason="away")
        [due] = promises.due_promises(connection, later(11))
        assert (due.attempts, due.reason) == (1, ""), "its turn has a number of its own, and comes when it was due"
        assert [one.event for one in audit.entries(connection)] == ["commitment wanted"] * 2


def test_one_that_is_never_told_ends_with_its_reason(database: Database) -> None:
    opened(database)
    with database.begin() as connection:
        promises.abandon_promise(connection, promises.get_promise(connection, 1), reason="it is gone")
        assert promises.due_promises(connection, later(9)) == []
        assert audit.entries(connection)[-1].event == "commitment not told"


def test_a_series_is_promised_while_any_of_it_was_or_is_to_be_told_and_not_when_it_was_not_here(
    database: Database,
) -> None:
    with database.begin() as connection:
        catalog.add_instances(connection, [instance(1), instance(9, series="7.7")])
    opened(database)
    with database.begin() as connection:
        assert promises.is_promised(connection, [SERIES, "7.7"]) and not promises.is_promised(connection, ["7.7"])
        assert set(promises.listed_instances(connection, [f"{SERIES}.1", f"{SERIES}.2"])) == {f"{SERIES}.1"}
        promises.abandon_promise(connection, promises.get_promise(connection, 1), reason="no answer to the report")
        assert promises.is_promised(connection, [SERIES]), "the report may have been heard, and its answer been lost"
        promises.record_check(connection, 1, {f"{SERIES}.1": 0x0119})
        assert not promises.is_promised(connection, [SERIES])


def test_a_request_is_forgotten_when_it_is_over_long_since_and_nothing_of_it_is_held(database: Database) -> None:
    ask = [Reference(CT, f"{SERIES}.1"), Reference(CT, "9.9")]
    for peer in ("told", "given up", "waiting", "late"):
        opened(database, ask, peer=peer)
    with database.begin() as connection:
        catalog.add_instances(connection, [instance(1)])
        told, given_up, _, late = (promises.get_promise(connection, number) for number in (1, 2, 3, 4))
        promises.finish_promise(connection, told, now=later(5))
        promises.abandon_promise(connection, given_up, reason="away")
        promises.finish_promise(connection, late, now=later(500))
        assert promises.forget_promises(connection, asked_before=later(100)) == 0, "an instance is held still"
        promises.record_check(connection, 1, {f"{SERIES}.1": 0x0110})
        assert promises.forget_promises(connection, asked_before=later(100)) == 1, "it was not promised there"
    with database.begin() as connection:
        connection.execute(sa.delete(instances))
        assert promises.forget_promises(connection, asked_before=NOW) == 0
        assert promises.forget_promises(connection, asked_before=later(100)) == 1
        assert [one.peer for one in promises.list_promises(connection)] == ["late", "waiting"]
        assert promises.promised(connection, 2) == [] and promises.promised(connection, 3) == ask
        assert promises.forget_promises(connection, asked_before=later(1000), most=1) == 1
        assert [one.peer for one in promises.list_promises(connection)] == ["waiting"]
