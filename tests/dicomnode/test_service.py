"""A service answers on the node's port beside C-STORE, to those who have the right."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pynetdicom import AE, build_context, evt
from pynetdicom.presentation import PresentationContext
from pynetdicom.sop_class import CTImageStorage, StudyRootQueryRetrieveInformationModelFind

from dicomnode.peer import Peer
from dicomnode.service import NOT_AUTHORISED, Handler, Rights, Who
from storage.instance_files import InstanceFiles
from tests.builders_dicom import write_ct_series
from tests.builders_receive import PEERS, Station

FIND = StudyRootQueryRetrieveInformationModelFind


class Finder:
    """A service that finds nothing, for those who may query."""

    def __init__(self) -> None:
        self.told: list[tuple[str, str]] = []
        self.callers: list[str] = []

    def contexts(self) -> Sequence[PresentationContext]:
        return [build_context(FIND)]

    def handlers(self, who: Who) -> Sequence[Handler]:
        self._rights = Rights(who, lambda event, peer, _: self.told.append((event, peer)))
        return [(evt.EVT_C_FIND, self._on_find)]

    def end(self) -> None:
        self.told.append(("ended", ""))

    def _on_find(self, event: Any) -> Iterator[tuple[int, None]]:
        caller = self._rights.peer_with("query", event.assoc)
        self.callers += [caller.name] if caller else []
        yield (0x0000 if caller else NOT_AUTHORISED), None


def statuses(station: Station, *, calling: str, times: int = 1) -> list[int]:
    entity = AE(calling)
    entity.add_requested_context(FIND)
    association = entity.associate("127.0.0.1", station.port, ae_title="DICOMNODE")
    asked = Dataset()
    asked.QueryRetrieveLevel = "STUDY"
    found = [status.Status for _ in range(times) for status, _ in association.send_c_find(asked, FIND)]
    association.release()
    return found


@pytest.mark.parametrize("path", ["fast", "plain"])
def test_a_service_answers_who_has_the_right_and_tells_a_refusal_once_an_association(tmp_path: Path, path: str) -> None:
    finder = Finder()
    station = Station(InstanceFiles(tmp_path), receive_path=path, services=(finder,))
    try:
        assert statuses(station, calling="VIEWER") == [0x0000]
        assert finder.callers == ["viewer"] and not finder.told
        assert statuses(station, calling="SCANNER", times=3) == [NOT_AUTHORISED] * 3
        assert finder.callers == ["viewer"] and finder.told == [("query refused", "scanner")]
        [file] = write_ct_series(tmp_path / "ct", slices=1)
        assert station.send(dcmread(file)) == 0x0000
    finally:
        station.receiver.stop(drain_s=5)


def test_without_services_their_contexts_are_not_accepted(tmp_path: Path) -> None:
    station = Station(InstanceFiles(tmp_path))
    try:
        entity = AE("VIEWER")
        entity.add_requested_context(FIND)
        entity.add_requested_context(CTImageStorage)
        association = entity.associate("127.0.0.1", station.port, ae_title="DICOMNODE")
        assert [context.abstract_syntax for context in association.accepted_contexts] == [CTImageStorage]
        association.release()
    finally:
        station.receiver.stop(drain_s=5)


def test_a_peer_without_any_right_is_told_apart_from_one_with_another() -> None:
    told: list[str] = []

    class Association:
        """Something that rights can hang on."""

    one, two = Association(), Association()
    peers = {one: PEERS["viewer"], two: Peer(name="mute", ae_title="MUTE")}
    rights = Rights(peers.__getitem__, lambda event, peer, _: told.append(f"{peer}: {event}"))
    assert rights.peer_with("query", one) is PEERS["viewer"]
    assert rights.peer_with("retrieve", one) is None and rights.peer_with("query", two) is None
    assert told == ["viewer: retrieve refused", "mute: query refused"]
