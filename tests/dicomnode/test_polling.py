"""What is new at a peer is fetched once its count stands still, once, and only what is missing."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from pydicom import dcmread
from pydicom.uid import generate_uid

from dicomnode.need_settings import RetrieveTable
from dicomnode.polling import Poller, days_asked
from storage import sightings
from storage.database import Database
from storage.sightings import Sight
from tests.builders_dicom import write_ct_series, write_pet_series
from tests.builders_fetch import Holding
from tests.builders_retrieve import as_peer, give, introduce
from tests.peers import Orthanc, free_port, wait_until

RULES = """
[[retrieve]]
name = "new CT"
from = "pacs"
modality = ["CT"]
days = 3650
every_minutes = 0.0001
how = "get"
{more}
"""


@pytest.fixture(scope="module")
def pacs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    orthanc = Orthanc(tmp_path_factory.mktemp("pacs") / "orthanc").start()
    introduce(orthanc, free_port())
    yield orthanc
    orthanc.stop()


def poller(holding: Holding) -> Poller:
    return Poller(lambda: holding.config, holding.database, holding.fetcher, tell=holding.tell)


def fetched(holding: Holding) -> list[tuple[str, int, int]]:
    rows = [details for event, _, details in holding.told if event == "series retrieved"]
    return [(row["series_instance_uid"], row["held"], row["fetched"]) for row in rows]


def last_look(holding: Holding) -> datetime | None:
    with holding.database.read() as connection:
        return sightings.looked_at(connection, "new CT")


def looks(holding: Holding, step: Poller, count: int) -> None:
    """So many looks have begun and ended."""
    for _ in range(count):
        before = step._tried_at.get("new CT")

        def begun(before: float | None = before) -> bool:
            step()
            return step._tried_at.get("new CT") != before

        wait_until(begun, seconds=20)
        wait_until(lambda: not step._errands.is_out("new CT"), seconds=20)
    holding.list()


@pytest.mark.peer
def test_a_series_is_fetched_once_when_it_stands_still_and_later_only_what_is_missing(
    database: Database, tmp_path: Path, pacs: Orthanc
) -> None:
    holding = Holding(database, tmp_path, as_peer(pacs), RULES.format(more='description = "First*"'))
    uid, study = generate_uid(), generate_uid()
    ct = write_ct_series(
        tmp_path / "ct", slices=6, series_instance_uid=uid, study_instance_uid=study, SeriesDescription="First CT"
    )
    give(pacs, ct[:3])
    give(pacs, write_pet_series(tmp_path / "pet", study_instance_uid=study, SeriesDescription="First PET"))
    step = poller(holding)
    looks(holding, step, 1)
    assert fetched(holding) == [], "it may still be on its way to the PACS"
    give(pacs, ct[3:4])
    looks(holding, step, 1)
    assert fetched(holding) == [], "it has grown since"
    looks(holding, step, 3)
    assert fetched(holding) == [(uid, 0, 4)]
    give(pacs, ct[4:])
    looks(holding, poller(holding), 3)  # after a restart, too
    assert fetched(holding) == [(uid, 0, 4), (uid, 4, 2)]


@pytest.mark.peer
def test_what_is_here_already_is_not_fetched_nor_when_retention_has_taken_it(
    database: Database, tmp_path: Path, pacs: Orthanc
) -> None:
    holding = Holding(database, tmp_path, as_peer(pacs), RULES.format(more='description = "Second*"'))
    ct = write_ct_series(tmp_path / "ct", slices=3, SeriesDescription="Second CT")
    give(pacs, ct)
    uid = holding.receive(ct)
    step = poller(holding)
    looks(holding, step, 2)
    with database.read() as connection:
        known = sightings.sighting(connection, "pacs", uid)
    assert known is not None and known.state is Sight.FETCHED
    with database.begin() as connection:
        for table in ("instances", "series"):
            connection.execute(sa.text(f"DELETE FROM {table}"))
    looks(holding, step, 2)
    assert fetched(holding) == []


@pytest.mark.peer
def test_what_was_fetched_and_removed_here_is_not_fetched_again_when_the_peer_drops_an_image(
    database: Database, tmp_path: Path, pacs: Orthanc
) -> None:
    holding = Holding(database, tmp_path, as_peer(pacs), RULES.format(more='description = "Third*"'))
    ct = write_ct_series(tmp_path / "ct", slices=3, SeriesDescription="Third CT")
    give(pacs, ct)
    step = poller(holding)
    looks(holding, step, 2)
    (row,) = fetched(holding)
    with database.begin() as connection:
        for table in ("instances", "series"):
            connection.execute(sa.text(f"DELETE FROM {table}"))
    for path in (tmp_path / "files" / "arrivals").iterdir():
        path.unlink()
    pacs.delete(f"/instances/{next(iter(pacs.series()[row[0]]['instances'].values()))}")
    looks(holding, step, 3)
    assert fetched(holding) == [row]


@pytest.mark.peer
def test_a_series_that_cannot_be_had_does_not_hold_up_the_others_and_comes_last(
    database: Database, tmp_path: Path, pacs: Orthanc
) -> None:
    rules = RULES.format(more='description = "Fourth*"\nmost = 1')
    holding = Holding(database, tmp_path, as_peer(pacs), rules)
    good, bad = generate_uid(), generate_uid()
    ultrasound: dict[str, Any] = {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.6.1", "StudyDate": "20230101"}
    foreign = write_ct_series(
        tmp_path / "bad", slices=2, series_instance_uid=bad, SeriesDescription="Fourth A", **ultrasound
    )
    for path in foreign:
        dataset = dcmread(path)
        dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
        dataset.save_as(path)
    give(pacs, foreign)
    give(pacs, write_ct_series(tmp_path / "good", slices=3, series_instance_uid=good, SeriesDescription="Fourth B"))
    looks(holding, poller(holding), 4)
    assert fetched(holding) == [(good, 0, 3)]
    (told,) = [details for event, _, details in holding.told if event == "retrieve failed"]
    assert bad in told["reason"] and "which the node does not keep" in told["reason"]


def test_a_peer_that_is_away_is_told_once(database: Database, tmp_path: Path) -> None:
    holding = Holding(database, tmp_path, rules=RULES.format(more=""))
    looks(holding, poller(holding), 3)
    assert [(event, peer) for event, peer, _ in holding.told] == [("retrieve failed", "pacs")]
    assert "cannot be reached" in holding.told[0][2]["reason"]


def test_nobody_is_asked_before_the_time_has_come(database: Database, tmp_path: Path) -> None:
    rules = RULES.format(more="").replace("0.0001", "10.0")
    holding = Holding(database, tmp_path, rules=rules)

    def asked(ago: timedelta) -> bool:
        with database.begin() as connection:
            sightings.look(connection, "new CT", datetime.now(UTC) - ago)
        step = poller(holding)  # the node has just been started
        step()
        wait_until(lambda: not step._errands.is_out("new CT"), seconds=20)
        return bool(step._tried_at)

    assert not asked(timedelta(minutes=1))
    assert asked(timedelta(minutes=11))
    assert asked(-timedelta(days=300)), "a clock that once was wrong does not end the asking for a year"


def test_a_look_that_failed_is_no_look(database: Database, tmp_path: Path) -> None:
    """The days without an answer are asked for when the peer is back."""
    holding = Holding(database, tmp_path, rules=RULES.format(more=""))
    before = datetime.now(UTC) - timedelta(days=3)
    with database.begin() as connection:
        sightings.look(connection, "new CT", before)
    looks(holding, poller(holding), 1)
    assert last_look(holding) == before


@pytest.mark.parametrize(
    ("days", "last_look", "asked"),
    [
        (1, None, "20240309-"),
        (0, None, "20240310-"),
        (0, "2024-03-09T23:59", "20240309-"),
        (1, "2024-03-07T12:00", "20240306-"),
        (1, "2023-03-07T12:00", "20240207-"),
        (1, "2031-03-07T12:00", "20240309-"),
    ],
    ids=["first", "today only", "over midnight", "after an outage", "after a year", "clock was ahead"],
)
def test_the_days_since_the_last_look_are_asked_for_without_an_end(
    days: int, last_look: str | None, asked: str
) -> None:
    table = RetrieveTable.model_validate({"name": "new CT", "from": "pacs", "days": days})
    last = None if last_look is None else datetime.fromisoformat(last_look).astimezone()
    assert days_asked(table, last, date(2024, 3, 10)) == asked
