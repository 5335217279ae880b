"""What is answered goes out whole and in order, on the fast and on the plain path."""

from __future__ import annotations

from pathlib import Path

import pytest
from pynetdicom import AE

from dicomnode.fast_message import MOST_RESPONSES
from dicomnode.fast_pdu import StoreRequest, store_response
from tests.builders_dicom import write_ct_series
from tests.builders_query import STUDY_FIND, archive, dcmtk, find, keys, statuses
from tests.builders_receive import RawPeer


@pytest.mark.parametrize("path", ["fast", "plain"])
def test_answers_come_in_order_and_then_the_last_one(tmp_path: Path, path: str) -> None:
    with archive(tmp_path, receive_path=path) as opened:
        files = write_ct_series(tmp_path / "ct", slices=40, rows=8, columns=8, study_instance_uid="1.2.1")
        opened.keep(files)
        asked = keys("IMAGE", StudyInstanceUID="1.2.1", SeriesInstanceUID="", SOPInstanceUID="", InstanceNumber="")
        [series], _ = find(opened.port, keys("SERIES", StudyInstanceUID="1.2.1", SeriesInstanceUID=""))
        asked.SeriesInstanceUID = series.SeriesInstanceUID
        answers, last = find(opened.port, asked)
        assert sorted(one.InstanceNumber for one in answers) == list(range(1, 41)) and last.Status == 0
        told = dcmtk("findscu", opened.port, "-S", "-k", "QueryRetrieveLevel=STUDY", "-k", "StudyInstanceUID")
        assert statuses(told) == [0xFF00, 0x0000]


def test_the_smallest_pdu_that_a_peer_may_want_is_kept_to(tmp_path: Path) -> None:
    with archive(tmp_path) as opened:
        opened.keep(write_ct_series(tmp_path / "ct", slices=1, rows=8, columns=8, StudyDescription="x" * 64))
        entity = AE("VIEWER")
        entity.maximum_pdu_size = 64
        entity.add_requested_context(STUDY_FIND)
        association = entity.associate("127.0.0.1", opened.port, ae_title="DICOMNODE")
        asked = keys("STUDY", StudyInstanceUID="", StudyDescription="", PatientName="")
        [(pending, study), (last, _)] = list(association.send_c_find(asked, STUDY_FIND))
        assert (pending.Status, last.Status, study.StudyDescription) == (0xFF00, 0x0000, "x" * 64)
        association.release()


def test_a_refusal_names_the_element_at_fault_and_why_but_not_its_value(tmp_path: Path) -> None:
    with archive(tmp_path) as opened:
        answers, last = find(opened.port, keys("STUDY", StudyDate="2024-13-45", PatientName="Smith"))
        assert not answers and last.Status == 0xA900
        assert last.OffendingElement == 0x00080020 and "StudyDate" in last.ErrorComment
        assert "2024" not in last.ErrorComment
        answers, last = find(opened.port, keys("STUDY", StudyInstanceUID=""))
        assert not answers and last.Status == 0x0000


def test_an_association_on_which_much_was_asked_is_not_idle_at_its_end(tmp_path: Path) -> None:
    with archive(tmp_path) as opened:
        entity = AE("VIEWER")
        entity.add_requested_context(STUDY_FIND)
        association = entity.associate("127.0.0.1", opened.port, ae_title="DICOMNODE")
        for _ in range(5):
            assert [one.Status for one, _ in association.send_c_find(keys("STUDY", PatientID=""), STUDY_FIND)] == [0]
        association.release()
        assert association.is_released


def test_responses_that_nobody_asked_for_end_the_association_and_no_other(tmp_path: Path) -> None:
    response = store_response(1, StoreRequest(7, "1.2.840.10008.5.1.4.1.1.2", "1.2.3"), 0)
    with archive(tmp_path) as opened:
        with RawPeer(opened.port) as peer:
            peer.send(response * (MOST_RESPONSES + 1))
            assert peer.ends() == 0x07
        assert find(opened.port, keys("STUDY", StudyInstanceUID=""))[1].Status == 0x0000
