"""What is new at a peer is fetched once its count stands still, once, and only what is missing."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from pydicom.uid import generate_uid

from dicomnode.polling import Poller
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
        before = last_look(holding)
        step()
        wait_until(lambda: not step._errands.is_out("new CT"), seconds=20)
        assert last_look(holding) != before
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
    import sqlalchemy as sa

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


def test_a_peer_that_is_away_is_told_once(database: Database, tmp_path: Path) -> None:
    holding = Holding(database, tmp_path, rules=RULES.format(more=""))
    looks(holding, poller(holding), 3)
    assert [(event, peer) for event, peer, _ in holding.told] == [("retrieve failed", "pacs")]
    assert "cannot be reached" in holding.told[0][2]["reason"]


def test_nobody_is_asked_before_the_time_has_come(database: Database, tmp_path: Path) -> None:
    rules = RULES.format(more="").replace("0.0001", "10.0")
    holding = Holding(database, tmp_path, rules=rules)
    now = datetime.now(UTC)
    with database.begin() as connection:
        sightings.look(connection, "new CT", now)
    poller(holding)()
    with database.begin() as connection:
        assert sightings.looked_at(connection, "new CT") == now
        sightings.look(connection, "new CT", now - timedelta(minutes=11))
    step = poller(holding)
    step()
    wait_until(lambda: not step._errands.is_out("new CT"), seconds=20)
    last = last_look(holding)
    assert last is not None and last >= now
