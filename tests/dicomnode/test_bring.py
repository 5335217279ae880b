"""Nothing is fetched twice, and nothing counts as fetched that is not here, whatever the peer says."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from dicomnode import bring
from dicomnode.bring import Brought, bring_series
from dicomnode.errors import PeerRejected
from dicomnode.fetching import Fetcher
from dicomnode.finding import Finder, FoundSeries
from dicomnode.gather import list_arrivals
from dicomnode.peer import Peer
from dicomnode.question import Question
from storage import sightings
from storage.database import Database
from storage.instance_files import InstanceFiles
from storage.sightings import Sight, Sighting
from tests.builders_dicom import write_ct_series
from tests.builders_requestor import ScriptedPeer
from tests.builders_retrieve import OURS, as_peer, give, introduce
from tests.peers import Orthanc, free_port, storescp


@pytest.fixture
def orthanc(tmp_path: Path) -> Iterator[Orthanc]:
    started = Orthanc(tmp_path / "orthanc").start()
    introduce(started, free_port())
    give(started, write_ct_series(tmp_path / "ct", slices=6))
    yield started
    started.stop()


@pytest.mark.peer
def test_only_what_is_missing_here_is_fetched(orthanc: Orthanc, database: Database, tmp_path: Path) -> None:
    files = InstanceFiles(tmp_path / "files")
    pacs = as_peer(orthanc)
    asked: list[tuple[int, bool]] = []

    class Counting(Fetcher):
        def fetch(self, peer: Peer, series: Any, instances: Sequence[Any], **more: Any) -> Any:
            asked.append((len(instances), more["whole"]))
            return super().fetch(peer, series, instances, **more)

    fetcher = Counting(ae_title=OURS, files=files, maximum_bytes=1 << 30, happened=lambda *_: None)

    with Finder(pacs, ae_title=OURS) as finder:
        (series,) = finder.series(Question(modality=("CT",)))
        some = finder.instances(series)[:2]
        Fetcher(OURS, files, 1 << 30, lambda *_: None).fetch(pacs, series, some, how="get", whole=False)
        # Two lie among the arrivals and are not listed yet: they are here all the same.
        assert bring_series(fetcher, finder, series, database, how="get", by="test") == Brought(6, 2, 4, 0, 4)
        list_arrivals(database, files, peer_of=lambda title: title)
        assert bring_series(fetcher, finder, series, database, how="get", by="test") == Brought(6, 6, 0, 0)
    assert asked == [(4, False)]
    with database.read() as connection:
        known = sightings.sighting(connection, "pacs", series.series_instance_uid)
    assert known == Sighting(Sight.FETCHED, 6, 0)


@pytest.mark.peer
def test_what_the_peer_sent_to_somebody_else_has_not_come_though_it_says_so(
    orthanc: Orthanc, database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An old entry of our AE title at the PACS: every sub-operation of the C-MOVE succeeds, at another machine."""
    monkeypatch.setattr(bring, "ARRIVE_S", 0.3)
    port, elsewhere = free_port(), tmp_path / "elsewhere"
    elsewhere.mkdir()
    fetcher = Fetcher(OURS, InstanceFiles(tmp_path / "files"), 1 << 30, lambda *_: None)
    with storescp(port, "-od", str(elsewhere)), Finder(as_peer(orthanc), ae_title=OURS) as finder:
        introduce(orthanc, port)
        (series,) = finder.series(Question(modality=("CT",)))
        brought = bring_series(fetcher, finder, series, database, how="move", by="new CT")
    assert len(list(elsewhere.iterdir())) == 6
    assert (brought.fetched, brought.said, brought.is_whole) == (0, 6, False)
    assert "0 of 6 missing instances came" in brought.shortfall and "our AE title" in brought.shortfall
    with database.read() as connection:
        known = sightings.sighting(connection, "pacs", series.series_instance_uid)
    assert known == Sighting(Sight.WANTED, 6, 1), "it is asked for again, and nobody reads what is here of it"


def test_a_peer_that_counts_instances_and_lists_none_is_not_done_with(database: Database, tmp_path: Path) -> None:
    fetcher = Fetcher(OURS, InstanceFiles(tmp_path / "files"), 1 << 30, lambda *_: None)
    values = {"StudyInstanceUID": "1.2", "SeriesInstanceUID": "1.2.3", "NumberOfSeriesRelatedInstances": 5}
    with (
        ScriptedPeer() as scripted,
        Finder(scripted.peer, ae_title=OURS) as finder,
        pytest.raises(PeerRejected, match="counts 5 instances and lists none"),
    ):
        bring_series(fetcher, finder, FoundSeries({}, values), database, how="get", by="test")
    with database.read() as connection:
        assert sightings.sighting(connection, "pacs", "1.2.3") == Sighting(Sight.WANTED, 5, 1)


def test_a_shortfall_is_said_in_words() -> None:
    assert Brought(6, 2, 4, 0).shortfall == ""
    assert Brought(6, 2, 3, 0).shortfall == "3 of 4 missing instances came"
    assert Brought(6, 0, 4, 2).shortfall.endswith("2 failed") and not Brought(6, 0, 4, 2).is_whole
    assert "says that it sent 4" in Brought(6, 2, 0, 0, 4).shortfall
