"""Queries and retrievals on the node's port: for those who may, told to the audit, whatever is sent."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import dcmread
from pydicom.dataset import Dataset
from pynetdicom import AE
from pynetdicom.pdu_primitives import SOPClassExtendedNegotiation

from dicomnode.fast_message import LONGEST_FORWARDED
from dicomnode.fast_pdu import command_set
from dicomnode.frequent import MOST_ROWS
from dicomnode.tls import client_context
from tests.builders_dicom import write_ct_series
from tests.builders_query import (
    PATIENT_FIND,
    STUDY_FIND,
    STUDY_MOVE,
    Archive,
    archive,
    dcmtk,
    find,
    keys,
    statuses,
)
from tests.builders_receive import RawPeer, fragment, p_data
from tests.builders_tls import Authority, peer_over_tls
from tests.peers import wait_until

NOT_AUTHORISED, AWAY = 0x0124, 0xA700


def test_who_may_not_is_refused_and_the_audit_is_told(tmp_path: Path) -> None:
    with archive(tmp_path) as opened:
        opened.keep(write_ct_series(tmp_path / "ct", slices=1, rows=8, columns=8))
        answers, last = find(opened.port, keys("STUDY", StudyInstanceUID=""), calling="SCANNER")
        assert not answers and last.Status == NOT_AUTHORISED
        entity = AE("SCANNER")
        entity.add_requested_context(STUDY_MOVE)
        association = entity.associate("127.0.0.1", opened.port, ae_title="DICOMNODE")
        asked = keys("STUDY", StudyInstanceUID="1.2")
        assert [one.Status for one, _ in association.send_c_move(asked, "SCANNER", STUDY_MOVE)] == [NOT_AUTHORISED]
        association.release()
        assert [event for event, _, _ in opened.told] == ["query refused", "retrieve refused"]


def test_the_audit_hears_who_asked_for_what_and_how_much_it_was_without_a_patient(tmp_path: Path) -> None:
    with archive(tmp_path) as opened:
        opened.keep(write_ct_series(tmp_path / "ct", slices=1, rows=8, columns=8, study_instance_uid="1.2.1"))
        find(opened.port, keys("STUDY", PatientName="PHANTOM*", PatientID="PHANTOM-1", StudyInstanceUID="1.2.1"))
        assert opened.told == [
            (
                "query answered",
                "viewer",
                {
                    "service": "C-FIND",
                    "model": "study root",
                    "level": "STUDY",
                    "study_instance_uids": ["1.2.1"],
                    "asked": ["PatientID", "PatientName", "StudyInstanceUID"],
                    "answers": 1,
                    "status": "0x0000",
                },
            )
        ]


def test_a_database_that_is_away_is_said_and_instances_go_on_being_taken(tmp_path: Path) -> None:
    with archive(tmp_path) as opened:
        files = write_ct_series(tmp_path / "ct", slices=2, rows=8, columns=8)
        opened.keep(files[:1])
        opened.stores.database.close()
        opened.database.close()
        path = tmp_path / "var" / "node.sqlite"
        path.rename(tmp_path / "gone")
        for more in ("-wal", "-shm"):
            Path(f"{path}{more}").unlink(missing_ok=True)
        path.mkdir()
        asked = keys("STUDY", StudyInstanceUID="")
        answers, last = find(opened.port, asked)
        assert not answers and last.Status == AWAY
        assert opened.station.send(dcmread(files[1])) == 0x0000
        path.rmdir()
        (tmp_path / "gone").rename(path)
        answers, last = find(opened.port, asked)
        assert len(answers) == 1 and last.Status == 0x0000


def test_a_cancelled_query_ends(tmp_path: Path) -> None:
    with archive(tmp_path) as opened:
        for number in range(60):
            folder = tmp_path / str(number)
            opened.keep(write_ct_series(folder, slices=1, rows=8, columns=8, study_instance_uid=f"1.2.{number}"))
        command = {0x0002: STUDY_FIND.encode() + b"\0", 0x0100: b"\x20\0", 0x0110: b"\x07\0", 0x0700: b"\0\0"}
        assert len(STUDY_FIND) % 2
        request = command_set({**command, 0x0800: b"\x01\0"})
        cancel = command_set({0x0100: b"\xff\x0f", 0x0120: b"\x07\0", 0x0800: b"\x01\x01"})
        with RawPeer(opened.port, associate=False) as peer:
            peer.send(find_association())
            assert peer.read_pdu()[0] == 0x02
            asked = b"\x08\0\x52\0CS\x06\0STUDY \x20\0\x0d\0UI\0\0"
            peer.send(p_data(fragment(3, request)) + p_data(fragment(2, asked)) + p_data(fragment(3, cancel)))
            found = []
            while not found or found[-1] in (0xFF00, 0xFF01):
                kind, body = peer.read_pdu()
                assert kind == 0x04
                if body[5] & 1:
                    at = body.index(b"\x00\x00\x00\x09\x02\x00\x00\x00")
                    found.append(int.from_bytes(body[at + 8 : at + 10], "little"))
        assert found[-1] == 0xFE00 and len(found) <= 60
        wait_until(lambda: opened.told, seconds=5, what="the audit being told")
        assert opened.told[-1][2]["status"] == "0xFE00"


@pytest.mark.parametrize("path", ["fast", "plain"])
def test_a_cancel_that_comes_too_late_cancels_nothing_that_follows(tmp_path: Path, path: str) -> None:
    with archive(tmp_path, receive_path=path) as opened:
        opened.keep(write_ct_series(tmp_path / "ct", slices=1, rows=8, columns=8))
        entity = AE("VIEWER")
        entity.add_requested_context(STUDY_FIND)
        association = entity.associate("127.0.0.1", opened.port, ae_title="DICOMNODE")
        asked = keys("STUDY", StudyInstanceUID="")
        for number in [*range(1, 13), 12]:  # pynetdicom holds ten; the last one comes again
            found = [one.Status for one, _ in association.send_c_find(asked, STUDY_FIND, msg_id=number)]
            assert found == [0xFF00, 0x0000], number
            association.send_c_cancel(number, query_model=STUDY_FIND)
            # Asked again before its own thread went on, pynetdicom takes the answer for one that nobody asked for.
            wait_until(lambda: not association._is_paused, seconds=10, what="the requestor's thread going on")
        association.release()


def test_queries_in_a_loop_do_not_fill_the_audit_and_are_counted_all_the_same(tmp_path: Path) -> None:
    with archive(tmp_path) as opened:
        opened.keep(write_ct_series(tmp_path / "ct", slices=1, rows=8, columns=8))
        entity = AE("VIEWER")
        entity.add_requested_context(STUDY_FIND)
        association = entity.associate("127.0.0.1", opened.port, ae_title="DICOMNODE")
        for _ in range(MOST_ROWS + 20):
            list(association.send_c_find(keys("STUDY", StudyInstanceUID=""), STUDY_FIND))
        association.release()
    details = [details for event, _, details in opened.told if event == "query answered"]
    assert sum(one.get("happenings", 1) for one in details) == MOST_ROWS + 20 == sum(one["answers"] for one in details)
    assert len(details) <= MOST_ROWS + 1 or any("happenings" in one for one in details[:-1])


def test_many_answers_come_over_tls_and_a_move_is_told_there(tmp_path: Path, authority: Authority) -> None:
    with archive(tmp_path, authority=authority) as opened:
        opened.keep(write_ct_series(tmp_path / "ct", slices=220, rows=8, columns=8, study_instance_uid="1.2.1"))
        station = opened.station
        context = client_context(authority.certified("scanner").identity, peer_over_tls(station.tls_port))
        entity = AE("VIEWER")
        for model in (STUDY_FIND, STUDY_MOVE):
            entity.add_requested_context(model)
        association = entity.associate(
            "127.0.0.1", station.tls_port, ae_title="DICOMNODE", tls_args=(context, "localhost")
        )
        [(status, series), (last, _)] = association.send_c_find(
            keys("SERIES", StudyInstanceUID="1.2.1", SeriesInstanceUID=""), STUDY_FIND
        )
        assert (status.Status, last.Status) == (0xFF00, 0x0000)
        asked = keys("IMAGE", StudyInstanceUID="1.2.1", SeriesInstanceUID=series.SeriesInstanceUID, SOPInstanceUID="")
        answers = list(association.send_c_find(asked, STUDY_FIND))
        assert len({one.SOPInstanceUID for _, one in answers[:-1]}) == 220 and answers[-1][0].Status == 0x0000
        moved = list(association.send_c_move(keys("STUDY", StudyInstanceUID="1.2.1"), "NOBODY", STUDY_MOVE))
        assert [one.Status for one, _ in moved] == [0xA801]
        moved = list(association.send_c_move(keys("STUDY", StudyInstanceUID="1.2.1"), "VIEWER", STUDY_MOVE))
        assert (moved[-1][0].Status, moved[-1][0].NumberOfFailedSuboperations) == (0xA702, 220)
        assert len(moved[-1][1].FailedSOPInstanceUIDList) == 220
        association.release()


def find_association() -> bytes:
    """An A-ASSOCIATE-RQ of VIEWER for Study Root C-FIND in Explicit VR Little Endian."""

    def item(kind: int, content: bytes) -> bytes:
        return struct.pack(">BBH", kind, 0, len(content)) + content

    context = b"\x01\0\0\0" + item(0x30, STUDY_FIND.encode()) + item(0x40, b"1.2.840.10008.1.2.1")
    user = item(0x51, struct.pack(">I", 16384)) + item(0x52, b"1.2.3.4")
    body = struct.pack(">HH", 1, 0) + b"DICOMNODE".ljust(16) + b"VIEWER".ljust(16) + bytes(32)
    body += item(0x10, b"1.2.840.10008.3.1.1.1") + item(0x20, context) + item(0x50, user)
    return struct.pack(">BBI", 1, 0, len(body)) + body


@pytest.fixture(scope="module")
def attacked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Archive]:
    with archive(tmp_path_factory.mktemp("attacked")) as opened:
        yield opened


@settings(max_examples=60, deadline=None)
@given(contents=st.lists(st.binary(max_size=80), min_size=1, max_size=4))
def test_hostile_identifiers_are_answered_and_harm_nobody(attacked: Archive, contents: list[bytes]) -> None:
    with RawPeer(attacked.port, associate=False) as peer:
        peer.send(find_association())
        assert peer.read_pdu()[0] == 0x02
        for number, content in enumerate(contents, 1):
            command = {0x0002: STUDY_FIND.encode() + b"\0", 0x0100: b"\x20\0", 0x0110: struct.pack("<H", number)}
            request = command_set({**command, 0x0700: b"\0\0", 0x0800: b"\x01\0"})
            peer.send(p_data(fragment(3, request)) + p_data(fragment(2, content)))
            assert peer.read_status() in (0xA900, 0xC000)


@pytest.mark.parametrize(
    "asked",
    [
        {"StudyInstanceUID": "1.2' OR '1'='1"},
        {"PatientID": "%' OR 1=1 --"},
        {"PatientID": "*" * 1000},
        {"PatientID": "*a" * 500},
        {"PatientName": "*=" * 500},
        {"StudyInstanceUID": "../../etc/passwd"},
        {"StudyDate": "20240101-" * 100},
        {"AccessionNumber": "\x00\x01\x02"},
    ],
)
def test_hostile_values_find_no_more_than_they_say(tmp_path: Path, asked: dict[str, str]) -> None:
    with archive(tmp_path) as opened:
        opened.keep(write_ct_series(tmp_path / "ct", slices=1, rows=8, columns=8, PatientID="P1"))
        answers, last = find(opened.port, keys("STUDY", **asked))
        everything = set("".join(asked.values())) == {"*"} or "PatientName" in asked
        assert len(answers) == everything and last.Status in (0x0000, 0xA900)
        answers, last = find(opened.port, keys("STUDY", PatientID="P1"))
        assert len(answers) == 1 and last.Status == 0x0000


def test_ten_thousand_uids_are_one_query_and_more_are_refused(tmp_path: Path) -> None:
    with archive(tmp_path) as opened:
        opened.keep(write_ct_series(tmp_path / "ct", slices=1, rows=8, columns=8, study_instance_uid="1.2.1"))
        many = [f"1.9.{number}" for number in range(9_999)]
        answers, last = find(opened.port, keys("STUDY", StudyInstanceUID=[*many, "1.2.1"]))
        assert len(answers) == 1 and last.Status == 0x0000
        answers, last = find(opened.port, keys("STUDY", StudyInstanceUID=[*many, "1.2.1", "1.2.2"]))
        assert not answers and last.Status == 0xA900


def test_extensions_are_agreed_on_where_we_know_them(tmp_path: Path) -> None:
    with archive(tmp_path) as opened:
        opened.keep(write_ct_series(tmp_path / "ct", slices=1, rows=8, columns=8, AccessionNumber=""))
        entity = AE("VIEWER")
        entity.add_requested_context(STUDY_FIND)
        wish = SOPClassExtendedNegotiation()
        wish.sop_class_uid, wish.service_class_application_information = STUDY_FIND, b"\x01" * 7
        association = entity.associate("127.0.0.1", opened.port, ae_title="DICOMNODE", ext_neg=[wish])
        assert association.acceptor.sop_class_extended[STUDY_FIND] == b"\x00\x01\x00\x00\x00\x01\x01"
        asked = keys("STUDY", StudyInstanceUID="", AccessionNumber='""')
        found = [one.Status for one, _ in association.send_c_find(asked, STUDY_FIND)]
        association.release()
        assert found == [0xFF00, 0x0000]
        assert find(opened.port, asked)[0] == []


def test_an_identifier_longer_than_any_ends_the_association_and_no_other(tmp_path: Path) -> None:
    with archive(tmp_path) as opened:
        asked = Dataset()
        asked.QueryRetrieveLevel = "STUDY"
        asked.StudyInstanceUID = ["1.2.3.4.5.6.7.8.9.10"] * (LONGEST_FORWARDED // 20)
        entity = AE("VIEWER")
        entity.dimse_timeout = 5
        entity.add_requested_context(STUDY_FIND)
        association = entity.associate("127.0.0.1", opened.port, ae_title="DICOMNODE")
        list(association.send_c_find(asked, STUDY_FIND))
        wait_until(lambda: not association.is_established, seconds=10, what="the association ending")
        answers, last = find(opened.port, keys("STUDY", StudyInstanceUID=""))
        assert not answers and last.Status == 0x0000


@pytest.mark.peer
def test_dcmtk_finds_in_both_models_and_in_its_character_set(tmp_path: Path) -> None:
    with archive(tmp_path) as opened:
        name = "Müller^Hans"
        opened.keep(write_ct_series(tmp_path / "ct", slices=3, rows=8, columns=8, PatientName=name, PatientID="M"))
        told = dcmtk("findscu", opened.port, "-P", "-k", "QueryRetrieveLevel=PATIENT", "-k", "PatientName=mull*")
        assert statuses(told) == [0xFF00, 0x0000] and "ISO_IR 192" in told
        latin = ("-k", "SpecificCharacterSet=ISO_IR 100")
        told = dcmtk("findscu", opened.port, "-S", *latin, "-k", "QueryRetrieveLevel=STUDY", "-k", "PatientName=M*")
        assert statuses(told) == [0xFF00, 0x0000] and "ISO_IR 100" in told and "ISO_IR 192" not in told
        told = dcmtk("findscu", opened.port, "-S", "-k", "QueryRetrieveLevel=SERIES", "-k", "Modality")
        assert statuses(told) == [0xA900]
        answers, _ = find(opened.port, keys("PATIENT", PatientID="M", PatientName=""), model=PATIENT_FIND)
        assert [str(one.PatientName) for one in answers] == [name]
