"""Whoever looks at everything that was received gets each series once and whole, and holds up nobody."""

from __future__ import annotations

from datetime import timedelta

import pytest

from storage import catalog, received
from storage.catalog import Instance
from storage.database import Database
from storage.received import Choice, count_received, derived_headers, jobs_that_made, received_series
from tests.storage.builders_storage import NOW, instance, made_uids, planned_job


def listed(database: Database, series: str, count: int, **more: object) -> None:
    with database.begin() as connection:
        catalog.add_instances(connection, [instance(k, series=series, **more) for k in range(1, count + 1)])  # type: ignore[arg-type]


def test_every_received_series_comes_once_and_whole_however_many_there_are(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(received, "PAGE", 3)
    monkeypatch.setattr(received, "MOST_HEADERS", 5)
    counts = {f"1.2.{number}": 1 + number % 4 for number in range(1, 9)} | {"1.2.9": 12}
    for uid, count in counts.items():
        listed(database, uid, count)
    found = list(received_series(database, Choice()))
    assert {one.series.series_instance_uid: len(one.headers) for one in found} == counts
    assert len(found) == len(counts) == count_received_in(database, Choice())
    assert all(one.headers[f"{one.series.series_instance_uid}.1"]["Modality"] == "CT" for one in found)


def count_received_in(database: Database, choice: Choice) -> int:
    with database.read() as connection:
        return count_received(connection, choice)


def test_only_what_came_since_then_and_from_those_peers_is_chosen(database: Database) -> None:
    listed(database, "1.1", 1, at=NOW - timedelta(days=3))
    listed(database, "1.2", 1, at=NOW, peer="scanner")
    listed(database, "1.3", 1, at=NOW, peer="other")

    def chosen(choice: Choice) -> list[str]:
        found = list(received_series(database, choice))
        assert count_received_in(database, choice) == len(found)
        return [one.series.series_instance_uid for one in found]

    assert chosen(Choice(since=NOW - timedelta(days=1))) == ["1.2", "1.3"]
    assert chosen(Choice(peers=frozenset({"scanner"}))) == ["1.1", "1.2"]
    assert chosen(Choice(since=NOW, peers=frozenset({"other"}))) == ["1.3"]


def test_what_we_derived_is_not_among_what_was_received_but_is_found_by_its_job(database: Database) -> None:
    listed(database, "1.2.3.4", 3)
    with database.begin() as connection:
        job = planned_job(connection, key="k" * 64)
        made = [_derived(uid) for uid in reversed(made_uids(job))]
        catalog.add_derived_series(connection, "9.8", made)
    assert [one.series.series_instance_uid for one in received_series(database, Choice())] == ["1.2.3.4"]
    with database.read() as connection:
        (derived,) = derived_headers(connection, "k" * 64)
        assert derived.series.series_instance_uid == "9.8"
        assert sorted(derived.headers) == sorted(made_uids(job))
        assert derived_headers(connection, "another job") == []
        assert [one.id for one in jobs_that_made(connection, "9.8")] == [job.id]
        assert [one.id for one in jobs_that_made(connection, job.derived_series_instance_uid)] == [job.id]
        assert jobs_that_made(connection, "1.2.3.4") == []


def _derived(uid: str) -> Instance:
    return Instance(uid, "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.1.2.1", "9.8", "1.2.3", "", NOW, uid, 1, {})


def test_a_series_that_goes_while_the_others_are_looked_at_is_left_out(database: Database) -> None:
    listed(database, "1.1", 1)
    with database.read() as connection:
        assert [one.series.series_instance_uid for one in received._held(connection, ["1.1", "1.2"])] == ["1.1"]
