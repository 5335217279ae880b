"""What the catalogue promises: every instance listed once, every series counted right, closed only as it was seen."""

from __future__ import annotations

import threading

import pytest

from storage import catalog
from storage.catalog import Origin, SeriesState
from storage.database import Database
from storage.errors import InstanceConflict, StaleState
from tests.storage.builders_storage import NOW, SERIES, STUDY, instance, later


def close(database: Database, *, generation: int = 1, instance_count: int = 3) -> None:
    with database.begin() as connection:
        catalog.close_series(
            connection, SERIES, generation=generation, instance_count=instance_count, because="quiet", now=later(60)
        )


def add(database: Database, *numbers: int, at: float = 0) -> list[catalog.AddedResult]:
    with database.begin() as connection:
        return catalog.add_instances(connection, [instance(number, at=later(at)) for number in numbers])


def test_instances_come_back_as_they_were_listed(database: Database) -> None:
    header = {"Modality": "CT", "ImagePositionPatient": [1.5, -2.0, 1e-3], "PixelSpacing": None, "Note": "µ\0\ud800"}
    listed = [instance(1, header=header, size_bytes=2**40), instance(2, at=later(-1.5))]
    with database.begin() as connection:
        catalog.add_instances(connection, listed)
    with database.read() as connection:
        assert catalog.series_instances(connection, SERIES) == [listed[1], listed[0]]
        assert catalog.instance_uids(connection, SERIES) == [f"{SERIES}.2", f"{SERIES}.1"]


@pytest.mark.parametrize("value", [float("nan"), b"bytes", {1, 2}])
def test_a_header_that_is_no_json_is_refused_naming_the_instance_and_quoting_nothing(
    database: Database, value: object
) -> None:
    with pytest.raises(ValueError, match=rf"{SERIES}\.1") as raised, database.begin() as connection:
        catalog.add_instances(connection, [instance(1, header={"SliceThickness": value, "Who": "DOE^JANE"})])
    assert "DOE" not in str(raised.value)


def test_a_series_grows_over_several_batches_and_counts_each_instance_once(database: Database) -> None:
    first = add(database, 1, 2, 2)
    second = add(database, 2, 3, at=5)
    again = add(database, 1, 2, 3, at=9)
    assert [(one.count, one.reopened, one.generation) for one in first + second] == [(2, False, 1), (1, False, 1)]
    assert second[0].sop_instance_uids == (f"{SERIES}.3",)
    assert again == []
    with database.read() as connection:
        found = catalog.get_series(connection, SERIES)
    assert found == catalog.Series(
        SERIES, STUDY, "scanner", SeriesState.OPEN, Origin.RECEIVED, 1, 3, NOW, later(5), None, ""
    )


def test_a_batch_of_several_series_tells_them_apart(database: Database) -> None:
    with database.begin() as connection:
        batch = [instance(1), instance(1, series="1.9"), instance(2), instance(2, series="1.9"), instance(3)]
        added = catalog.add_instances(connection, batch)
        assert [(one.series_instance_uid, one.count) for one in added] == [(SERIES, 3), ("1.9", 2)]
        assert [one.series_instance_uid for one in catalog.list_series(connection)] == [SERIES, "1.9"]
        assert len(catalog.list_series(connection, study_instance_uid=STUDY)) == 2
        assert catalog.list_series(connection, study_instance_uid="none") == []


def test_thousands_of_instances_are_one_batch(database: Database) -> None:
    uids = [f"{SERIES}.{number}" for number in range(2500)]
    assert add(database, *range(2500))[0].count == 2500
    with database.read() as connection:
        assert catalog.known_instances(connection, [*uids, "1.2.none"]) == set(uids)


def test_a_closed_series_opens_again_in_its_next_generation_when_a_slice_comes_late(database: Database) -> None:
    add(database, 1, 2, 3)
    close(database)
    with database.read() as connection:
        assert catalog.open_series(connection) == []
        assert catalog.get_series(connection, SERIES).closed_because == "quiet"
    assert add(database, 1, 2, at=70) == []
    late = add(database, 4, at=70)
    assert [(one.reopened, one.generation, one.count) for one in late] == [(True, 2, 1)]
    with database.read() as connection:
        found = catalog.open_series(connection)[0]
    assert (found.generation, found.instance_count, found.closed_at, found.closed_because) == (2, 4, None, "")
    close(database, generation=2, instance_count=4)


@pytest.mark.parametrize(("generation", "instance_count"), [(1, 2), (2, 3), (1, 4)])
def test_a_series_closes_only_as_it_was_looked_at(database: Database, generation: int, instance_count: int) -> None:
    add(database, 1, 2, 3)
    with pytest.raises(StaleState, match=SERIES):
        close(database, generation=generation, instance_count=instance_count)
    with database.read() as connection:
        assert catalog.get_series(connection, SERIES).state is SeriesState.OPEN


def test_a_series_closes_once(database: Database) -> None:
    add(database, 1, 2, 3)
    answers: list[str] = []

    def try_to_close() -> None:
        try:
            close(database)
            answers.append("closed")
        except StaleState:
            answers.append("stale")

    threads = [threading.Thread(target=try_to_close) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(answers) == ["closed"] + ["stale"] * 4


def test_writers_at_once_lose_and_double_no_instance(database: Database) -> None:
    def write(offset: int) -> None:
        for number in range(offset, offset + 20, 2):
            add(database, number, number + 1)

    threads = [threading.Thread(target=write, args=(10 * number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    with database.read() as connection:
        assert catalog.get_series(connection, SERIES).instance_count == 70
        assert len(catalog.instance_uids(connection, SERIES)) == 70


def test_a_derived_series_is_ours_closed_and_listed_once(database: Database) -> None:
    made = [instance(number, series="2.25.7", header={}, peer="") for number in (1, 2)]
    with database.begin() as connection:
        catalog.add_derived_series(connection, "2.25.7", made)
        before = catalog.get_series(connection, "2.25.7")
        catalog.add_derived_series(connection, "2.25.7", made)
        assert catalog.get_series(connection, "2.25.7") == before
        assert (before.origin, before.state, before.instance_count) == (Origin.DERIVED, SeriesState.CLOSED, 2)
        assert catalog.origin_of(connection, "2.25.7") is Origin.DERIVED
        assert catalog.origin_of(connection, "1.2.none") is None
        assert catalog.open_series(connection) == []


def test_what_we_derived_and_comes_back_opens_nothing(database: Database) -> None:
    made = [instance(1, series="2.25.7")]
    with database.begin() as connection:
        catalog.add_derived_series(connection, "2.25.7", made)
        assert catalog.add_instances(connection, made) == []
        foreign = catalog.add_instances(connection, [instance(2, series="2.25.7")])
        assert [(one.reopened, one.origin) for one in foreign] == [(False, Origin.DERIVED)]
        assert catalog.open_series(connection) == []


def test_a_series_that_came_back_before_we_knew_it_becomes_ours(database: Database) -> None:
    made = [instance(1, series="2.25.7"), instance(2, series="2.25.7")]
    with database.begin() as connection:
        catalog.add_instances(connection, made[:1])
        catalog.add_derived_series(connection, "2.25.7", made)
        found = catalog.get_series(connection, "2.25.7")
    assert (found.origin, found.state, found.instance_count) == (Origin.DERIVED, SeriesState.CLOSED, 2)


def test_a_derived_instance_listed_with_other_bytes_or_elsewhere_conflicts(database: Database) -> None:
    with database.begin() as connection:
        catalog.add_derived_series(connection, "2.25.7", [instance(1, series="2.25.7")])
    for other in (
        instance(1, series="2.25.7", sha256="f" * 64),
        instance(1, series="2.25.8", sop_instance_uid="2.25.7.1"),
    ):
        with pytest.raises(InstanceConflict, match=r"2\.25\.7\.1"), database.begin() as connection:
            catalog.add_derived_series(connection, other.series_instance_uid, [other])


def test_a_derived_series_needs_its_own_instances(database: Database) -> None:
    for wrong in ([], [instance(1, series="1.9")]):
        with pytest.raises(ValueError, match=r"2\.25\.7"), database.begin() as connection:
            catalog.add_derived_series(connection, "2.25.7", wrong)


def test_an_unknown_series_is_said_to_be_unknown(database: Database) -> None:
    with database.read() as connection, pytest.raises(LookupError, match=r"1\.2\.none"):
        catalog.get_series(connection, "1.2.none")
