"""Nothing is fetched twice: what the catalogue lists is not asked for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from dicomnode.bring import Brought, bring_series
from dicomnode.fetching import Fetcher
from dicomnode.finding import Finder
from dicomnode.gather import list_arrivals
from dicomnode.peer import Peer
from dicomnode.question import Question
from storage.database import Database
from storage.instance_files import InstanceFiles
from tests.builders_dicom import write_ct_series
from tests.builders_retrieve import OURS, as_peer, give, introduce
from tests.peers import Orthanc, free_port

pytestmark = pytest.mark.peer


@pytest.fixture
def pacs(tmp_path: Path) -> Iterator[Peer]:
    orthanc = Orthanc(tmp_path / "orthanc").start()
    introduce(orthanc, free_port())
    give(orthanc, write_ct_series(tmp_path / "ct", slices=6))
    yield as_peer(orthanc)
    orthanc.stop()


def test_only_what_is_missing_here_is_fetched(pacs: Peer, database: Database, tmp_path: Path) -> None:
    files = InstanceFiles(tmp_path / "files")
    asked: list[tuple[int, bool]] = []

    class Counting(Fetcher):
        def fetch(self, peer: Peer, series: Any, instances: Sequence[Any], **more: Any) -> Any:
            asked.append((len(instances), more["whole"]))
            return super().fetch(peer, series, instances, **more)

    fetcher = Counting(ae_title=OURS, files=files, maximum_bytes=1 << 30, happened=lambda *_: None)

    def listed() -> None:
        list_arrivals(database, files, peer_of=lambda title: title)

    with Finder(pacs, ae_title=OURS) as finder:
        (series,) = finder.series(Question(modality=("CT",)))
        some = finder.instances(series)[:2]
        Fetcher(OURS, files, 1 << 30, lambda *_: None).fetch(pacs, series, some, how="get", whole=False)
        listed()
        assert bring_series(fetcher, finder, series, database, how="get") == Brought(6, 2, 4, 0)
        listed()
        assert bring_series(fetcher, finder, series, database, how="get") == Brought(6, 6, 0, 0)
    assert asked == [(4, False)]


def test_a_shortfall_is_said_in_words() -> None:
    assert Brought(6, 2, 4, 0).shortfall == ""
    assert Brought(6, 2, 3, 0).shortfall == "the peer sent 3 of 4 missing instances"
    assert Brought(6, 0, 4, 2).shortfall.endswith("2 failed") and not Brought(6, 0, 4, 2).is_whole
