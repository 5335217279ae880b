"""C-MOVE and C-GET send what was named, byte for byte as it is stored, and say honestly what became of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, JPEGLSLossless, RLELossless
from pynetdicom import AE, build_role, evt
from pynetdicom.sop_class import CTImageStorage

from dicomnode.answer_retrieve import Progress, destination_of
from dicomnode.peer import Peer
from dicomnode.tls import client_context
from storage.file_cache import FileCache
from storage.ledger import LedgerState
from storage.object_files import ObjectFiles
from storage.object_store import ObjectStore
from tests.builders_dicom import write_ct_series
from tests.builders_query import (
    PATIENT_GET,
    PATIENT_MOVE,
    STUDY_GET,
    STUDY_MOVE,
    Archive,
    archive,
    dcmtk,
    keys,
    statuses,
)
from tests.builders_receive import encoded_data_set
from tests.builders_store import S3Server
from tests.builders_tls import Authority, peer_over_tls
from tests.peers import free_port, program, storescp

SMALL = {"rows": 16, "columns": 16}


class Workstation:
    """A storage provider that keeps the data sets it is sent, and answers as it is told."""

    def __init__(self, *, answers: dict[str, int] | None = None, syntaxes: tuple[str, ...] = (ExplicitVRLittleEndian,)):
        self.kept: dict[str, bytes] = {}
        self.originators: list[tuple[str, int]] = []
        self._answers = answers or {}
        entity = AE("VIEWER")
        entity.add_supported_context(CTImageStorage, list(syntaxes))
        self.port = free_port()
        handlers = [(evt.EVT_C_STORE, self._keep)]
        self.server = entity.start_server(("127.0.0.1", self.port), block=False, evt_handlers=handlers)

    def _keep(self, event: Any) -> int:
        asked = event.request
        uid = str(asked.AffectedSOPInstanceUID)
        self.kept[uid] = asked.DataSet.getvalue()
        title = asked.MoveOriginatorApplicationEntityTitle
        self.originators.append((str(title).strip(), asked.MoveOriginatorMessageID))
        return self._answers.get(uid, 0x0000)


@pytest.fixture
def workstation() -> Iterator[Workstation]:
    opened = Workstation()
    yield opened
    opened.server.shutdown()


def move(
    opened: Archive, level: str = "STUDY", *, model: str = STUDY_MOVE, to: str = "VIEWER", **asked: Any
) -> tuple[Any, Any, list[Any]]:
    """The last status and identifier of a C-MOVE, and the statuses before."""
    entity = AE("VIEWER")
    entity.add_requested_context(model)
    association = entity.associate("127.0.0.1", opened.port, ae_title="DICOMNODE")
    answers = list(association.send_c_move(keys(level, **asked), to, model))
    association.release()
    status, identifier = answers[-1]
    return status, identifier, [one for one, _ in answers[:-1]]


def numbers(status: Any) -> tuple[Any, ...]:
    return (
        status.Status,
        status.NumberOfCompletedSuboperations,
        status.NumberOfFailedSuboperations,
        status.NumberOfWarningSuboperations,
    )


def uid_of(path: Path) -> str:
    return str(dcmread(path, stop_before_pixels=True).SOPInstanceUID)


def test_a_moved_study_is_what_was_received_byte_for_byte_and_says_who_asked(
    tmp_path: Path, workstation: Workstation
) -> None:
    with archive(tmp_path, port=workstation.port) as opened:
        files = opened.keep(write_ct_series(tmp_path / "ct", slices=5, study_instance_uid="1.2.1", **SMALL))
        opened.keep(write_ct_series(tmp_path / "other", slices=2, **SMALL))
        status, identifier, pending = move(opened, StudyInstanceUID="1.2.1")
    assert numbers(status) == (0x0000, 5, 0, 0) and not identifier
    assert workstation.kept == {uid_of(file): encoded_data_set(file) for file in files}
    assert pending and {one.Status for one in pending} == {0xFF00}
    assert pending[0].NumberOfRemainingSuboperations == 4 and pending[0].NumberOfCompletedSuboperations == 1
    assert set(workstation.originators) == {("VIEWER", 1)}
    event, peer, details = opened.told[-1]
    assert (event, peer, details["destination"], details["sent"], details["study_instance_uids"]) == (
        "retrieve answered",
        "viewer",
        "VIEWER",
        5,
        ["1.2.1"],
    )


@pytest.mark.parametrize(
    ("model", "level", "asked", "sent"),
    [
        (STUDY_MOVE, "STUDY", {"StudyInstanceUID": ["1.2.1", "1.2.2"]}, 5),
        (STUDY_MOVE, "SERIES", {"StudyInstanceUID": "1.2.1", "SeriesInstanceUID": "1.2.1.1"}, 3),
        (STUDY_MOVE, "SERIES", {"StudyInstanceUID": "1.2.2", "SeriesInstanceUID": "1.2.1.1"}, 0),
        (PATIENT_MOVE, "PATIENT", {"PatientID": "P1"}, 5),
        (PATIENT_MOVE, "PATIENT", {"PatientID": "P*"}, 0),
        (PATIENT_MOVE, "STUDY", {"PatientID": "P2", "StudyInstanceUID": "1.2.1"}, 0),
        (PATIENT_MOVE, "STUDY", {"PatientID": "P1", "StudyInstanceUID": "1.2.1"}, 3),
    ],
)
def test_exactly_what_the_levels_name_is_sent(
    tmp_path: Path, workstation: Workstation, model: str, level: str, asked: dict[str, Any], sent: int
) -> None:
    with archive(tmp_path, port=workstation.port) as opened:
        for uid, slices in (("1.2.1", 3), ("1.2.2", 2)):
            more: dict[str, Any] = {"study_instance_uid": uid, "series_instance_uid": f"{uid}.1", "PatientID": "P1"}
            opened.keep(write_ct_series(tmp_path / uid, slices=slices, **SMALL, **more))
        status, _, _ = move(opened, level, model=model, **asked)
    assert numbers(status) == (0x0000, sent, 0, 0) and len(workstation.kept) == sent


@pytest.mark.parametrize(
    ("level", "asked"),
    [
        ("STUDY", {}),
        ("STUDY", {"StudyInstanceUID": ""}),
        ("SERIES", {"SeriesInstanceUID": "1.2.1.1"}),
        ("IMAGE", {"StudyInstanceUID": "1.2.1", "SOPInstanceUID": "1.2.3"}),
        ("PATIENT", {"PatientID": "P1"}),
    ],
)
def test_a_retrieval_that_does_not_say_what_is_refused(
    tmp_path: Path, workstation: Workstation, level: str, asked: dict[str, Any]
) -> None:
    with archive(tmp_path, port=workstation.port) as opened:
        opened.keep(write_ct_series(tmp_path / "ct", slices=1, study_instance_uid="1.2.1", **SMALL))
        status, _, _ = move(opened, level, **asked)
    assert status.Status == 0xA900 and not workstation.kept


def test_a_destination_that_is_unknown_or_not_allowed_is_refused(tmp_path: Path, workstation: Workstation) -> None:
    port = workstation.port
    with archive(tmp_path, port=port, pacs_port=port) as opened:
        opened.keep(write_ct_series(tmp_path / "ct", slices=1, study_instance_uid="1.2.1", **SMALL))
        for title in ("NOBODY", "PACS", "SCANNER", "DICOMNODE"):
            status, _, _ = move(opened, to=title, StudyInstanceUID="1.2.1")
            assert status.Status == 0xA801, title
            assert opened.told[-1][2]["reason"].startswith(title)
    assert not workstation.kept


def test_move_to_names_the_destinations_that_a_peer_may_have(tmp_path: Path) -> None:
    def peer(name: str, **more: Any) -> Peer:
        return Peer(name=name, ae_title=name.upper(), host="127.0.0.1", port=104, **more)

    peers = [peer("viewer", move_to=("pacs",)), peer("pacs"), peer("other"), Peer(name="far", ae_title="FAR")]
    viewer, pacs, other, _ = peers
    assert destination_of("PACS", viewer, peers) is pacs
    assert destination_of("PACS ", viewer, peers) is pacs
    assert destination_of("VIEWER", viewer, peers) is None  # move_to says it all
    assert destination_of("OTHER", other, peers) is other and destination_of("PACS", other, peers) is None
    assert destination_of("FAR", peers[3], peers) is None and destination_of("pacs", viewer, peers) is None


def test_a_destination_that_does_not_answer_is_told_as_such_with_every_instance(tmp_path: Path) -> None:
    with archive(tmp_path, port=free_port()) as opened:
        files = opened.keep(write_ct_series(tmp_path / "ct", slices=3, study_instance_uid="1.2.1", **SMALL))
        status, identifier, _ = move(opened, StudyInstanceUID="1.2.1")
    assert numbers(status) == (0xA702, 0, 3, 0)
    assert sorted(identifier.FailedSOPInstanceUIDList) == sorted(uid_of(file) for file in files)


def test_single_failures_are_counted_and_named_and_the_others_are_sent(tmp_path: Path) -> None:
    files = write_ct_series(tmp_path / "ct", slices=4, study_instance_uid="1.2.1", **SMALL)
    refused, remarked, lost = (uid_of(file) for file in files[:3])
    workstation = Workstation(answers={refused: 0xC000, remarked: 0xB000})
    with archive(tmp_path, port=workstation.port) as opened:
        opened.keep(files)
        for place in opened.stores.files.places_of(lost):
            place.unlink(missing_ok=True)
        status, identifier, _ = move(opened, StudyInstanceUID="1.2.1")
    workstation.server.shutdown()
    assert numbers(status) == (0xB000, 1, 2, 1)
    assert sorted(identifier.FailedSOPInstanceUIDList) == sorted((refused, lost))


BAD_FILES: dict[str, Callable[[Path, Path], object]] = {
    "gone": lambda path, other: path.unlink(),
    "empty": lambda path, other: path.write_bytes(b""),
    "no DICOM": lambda path, other: path.write_bytes(b"\0" * 4096),
    "another instance": lambda path, other: path.write_bytes(other.read_bytes()),
}


@pytest.mark.parametrize("bad", [*BAD_FILES])
def test_a_bad_file_fails_alone_and_the_others_go_out(tmp_path: Path, workstation: Workstation, bad: str) -> None:
    with archive(tmp_path, port=workstation.port) as opened:
        files = opened.keep(write_ct_series(tmp_path / "ct", slices=5, study_instance_uid="1.2.1", **SMALL))
        lost = uid_of(files[1])
        for place in opened.stores.files.places_of(lost):
            if place.exists():
                BAD_FILES[bad](place, files[2])
        status, identifier, _ = move(opened, StudyInstanceUID="1.2.1")
        assert numbers(status) == (0xB000, 4, 1, 0) and identifier.FailedSOPInstanceUIDList == lost
        assert set(workstation.kept) == {uid_of(file) for file in files} - {lost}
        status, kept = get(opened, StudyInstanceUID="1.2.1")
        assert numbers(status) == (0xB000, 4, 1, 0) and kept == workstation.kept


def test_what_is_gone_from_the_object_store_fails_alone(
    tmp_path: Path, s3_server: S3Server, workstation: Workstation
) -> None:
    bucket = s3_server.bucket()
    files = ObjectFiles(tmp_path / "s3", ObjectStore(bucket), FileCache(tmp_path / "c", limit_bytes=10**9, in_use_s=0))
    with archive(tmp_path, port=workstation.port, files=files) as opened:
        paths = opened.keep(write_ct_series(tmp_path / "ct", slices=3, study_instance_uid="1.2.1", **SMALL))
        files.remove([uid_of(paths[1])])
        status, identifier, _ = move(opened, StudyInstanceUID="1.2.1")
        assert numbers(status) == (0xB000, 2, 1, 0) and identifier.FailedSOPInstanceUIDList == uid_of(paths[1])
        status, kept = get(opened, StudyInstanceUID="1.2.1")
        assert numbers(status) == (0xB000, 2, 1, 0) and kept == workstation.kept


def test_what_a_patient_level_retrieval_disclosed_stands_in_the_audit(tmp_path: Path, workstation: Workstation) -> None:
    with archive(tmp_path, port=workstation.port) as opened:
        for uid in ("1.2.1", "1.2.2"):
            opened.keep(write_ct_series(tmp_path / uid, slices=1, study_instance_uid=uid, PatientID="P1", **SMALL))
        move(opened, "PATIENT", model=PATIENT_MOVE, PatientID="P1")
        details = opened.told[-1][2]
        assert (details["studies"], details["study_instance_uids"], details["sent"]) == (2, ["1.2.1", "1.2.2"], 2)
        assert "P1" not in details.values()


def test_of_two_patients_under_one_study_uid_each_is_sent_by_itself(tmp_path: Path) -> None:
    with archive(tmp_path) as opened:
        files = {}
        for patient in ("A", "B"):
            more: dict[str, Any] = {"study_instance_uid": "1.2.1", "PatientID": patient, **SMALL}
            files[patient] = opened.keep(write_ct_series(tmp_path / patient, slices=2, **more))
        for patient in ("A", "B"):
            _, kept = get(opened, "STUDY", model=PATIENT_GET, PatientID=patient, StudyInstanceUID="1.2.1")
            assert set(kept) == {uid_of(file) for file in files[patient]}


def test_a_destination_that_is_away_is_named_in_answer_and_audit(tmp_path: Path) -> None:
    with archive(tmp_path, port=free_port()) as opened:
        files = opened.keep(write_ct_series(tmp_path / "ct", slices=2, study_instance_uid="1.2.1", **SMALL))
        status, identifier, _ = move(opened, StudyInstanceUID="1.2.1")
        assert numbers(status) == (0xA702, 0, 2, 0) and status.ErrorComment.startswith("VIEWER at 127.0.0.1")
        assert set(identifier.FailedSOPInstanceUIDList) == {uid_of(file) for file in files}
        assert "cannot be reached" in opened.told[-1][2]["reason"]


def test_what_the_destination_does_not_take_as_it_is_stored_is_recoded_without_loss(tmp_path: Path) -> None:
    workstation = Workstation(syntaxes=(ImplicitVRLittleEndian,))
    options: dict[str, Any] = {"study_instance_uid": "1.2.1", "transfer_syntax_uid": JPEGLSLossless}
    with archive(tmp_path, port=workstation.port) as opened:
        [file] = opened.keep(write_ct_series(tmp_path / "ct", slices=1, **options, **SMALL))
        status, _, _ = move(opened, StudyInstanceUID="1.2.1")
    workstation.server.shutdown()
    assert numbers(status) == (0x0000, 1, 0, 0)
    [content] = workstation.kept.values()
    assert dcmread(file).pixel_array.tobytes() in content


def get(opened: Archive, level: str = "STUDY", *, model: str = STUDY_GET, **asked: Any) -> tuple[Any, dict[str, bytes]]:
    """The last status of a C-GET and the data sets that came."""
    syntaxes = asked.pop("syntaxes", [ExplicitVRLittleEndian])
    port, tls = asked.pop("over", (opened.port, None))
    kept: dict[str, bytes] = {}

    def keep(event: Any) -> int:
        kept[str(event.request.AffectedSOPInstanceUID)] = event.request.DataSet.getvalue()
        return 0x0000

    entity = AE("VIEWER")
    entity.add_requested_context(CTImageStorage, syntaxes)
    entity.add_requested_context(model)
    wishes = [build_role(CTImageStorage, scp_role=True)]
    association = entity.associate(
        "127.0.0.1",
        port,
        ae_title="DICOMNODE",
        ext_neg=wishes,
        evt_handlers=[(evt.EVT_C_STORE, keep)],
        tls_args=tls,
    )
    assert association.is_established
    answers = list(association.send_c_get(keys(level, **asked), model))
    association.release()
    return answers[-1][0], kept


@pytest.mark.parametrize("path", ["fast", "plain"])
def test_what_is_got_is_what_was_received_byte_for_byte(tmp_path: Path, path: str) -> None:
    with archive(tmp_path, receive_path=path) as opened:
        more: dict[str, Any] = {"study_instance_uid": "1.2.1", "PatientID": "P1", "rows": 256, "columns": 300}
        files = opened.keep(write_ct_series(tmp_path / "ct", slices=4, **more))
        everything = {uid_of(file): encoded_data_set(file) for file in files}
        status, kept = get(opened, StudyInstanceUID="1.2.1")
        assert numbers(status) == (0x0000, 4, 0, 0) and kept == everything
        status, kept = get(opened, "PATIENT", model=PATIENT_GET, PatientID="P1")
        assert numbers(status) == (0x0000, 4, 0, 0) and kept == everything


def test_what_is_got_over_tls_is_the_same(tmp_path: Path, authority: Authority) -> None:
    with archive(tmp_path, authority=authority) as opened:
        more: dict[str, Any] = {"study_instance_uid": "1.2.1", "rows": 512, "columns": 512}
        files = opened.keep(write_ct_series(tmp_path / "ct", slices=3, **more))
        tls_port = opened.station.tls_port
        context = client_context(authority.certified("scanner").identity, peer_over_tls(tls_port))
        status, kept = get(opened, StudyInstanceUID="1.2.1", over=(tls_port, (context, "localhost")))
    assert numbers(status) == (0x0000, 3, 0, 0)
    assert kept == {uid_of(file): encoded_data_set(file) for file in files}


def test_what_the_caller_of_a_get_takes_otherwise_than_it_is_stored_is_recoded(tmp_path: Path) -> None:
    with archive(tmp_path) as opened:
        opened.keep(write_ct_series(tmp_path / "ct", slices=2, study_instance_uid="1.2.1", **SMALL))
        status, kept = get(opened, StudyInstanceUID="1.2.1", syntaxes=[ImplicitVRLittleEndian])
        assert numbers(status) == (0x0000, 2, 0, 0) and len(kept) == 2
        opened.keep(write_ct_series(tmp_path / "jls", study_instance_uid="1.2.2", transfer_syntax_uid=JPEGLSLossless))
        status, kept = get(opened, StudyInstanceUID="1.2.2", syntaxes=[RLELossless])
        assert numbers(status) == (0xA702, 0, 4, 0) and not kept


@pytest.mark.peer
def test_dcmtk_gets_and_moves_what_is_stored(tmp_path: Path) -> None:
    program("getscu")
    port, out = free_port(), tmp_path / "out"
    out.mkdir()
    study = ("-S", "-k", "QueryRetrieveLevel=STUDY", "-k", "StudyInstanceUID=1.2.1")
    with archive(tmp_path, port=port) as opened:
        files = opened.keep(write_ct_series(tmp_path / "ct", slices=6, study_instance_uid="1.2.1", **SMALL))
        told = dcmtk("getscu", opened.port, *study, "-od", str(out))
        assert statuses(told)[-1] == 0x0000 and "Number of Completed Suboperations : 6" in told
        assert {encoded_pixels(file) for file in out.iterdir()} == {encoded_pixels(file) for file in files}
        for file in out.iterdir():
            file.unlink()
        with storescp(port, "-od", str(out)):
            told = dcmtk("movescu", opened.port, *study, "-aem", "VIEWER")
            assert statuses(told)[-1] == 0x0000
        assert {encoded_pixels(file) for file in out.iterdir()} == {encoded_pixels(file) for file in files}


def encoded_pixels(path: Path) -> tuple[str, bytes]:
    dataset = dcmread(path)
    return str(dataset.SOPInstanceUID), dataset.PixelData


def test_a_cancelled_move_stops_and_tells_what_remains(tmp_path: Path, workstation: Workstation) -> None:
    with archive(tmp_path, port=workstation.port) as opened:
        opened.keep(write_ct_series(tmp_path / "ct", slices=150, study_instance_uid="1.2.1", rows=8, columns=8))
        entity = AE("VIEWER")
        entity.add_requested_context(STUDY_MOVE)
        association = entity.associate("127.0.0.1", opened.port, ae_title="DICOMNODE")
        answers = association.send_c_move(keys("STUDY", StudyInstanceUID="1.2.1"), "VIEWER", STUDY_MOVE, msg_id=7)
        first, _ = next(answers)
        assert first.Status == 0xFF00
        association.send_c_cancel(7, query_model=STUDY_MOVE)
        last = [status for status, _ in answers][-1]
        association.release()
    assert last.Status == 0xFE00 and last.NumberOfRemainingSuboperations > 0
    told = last.NumberOfRemainingSuboperations + last.NumberOfCompletedSuboperations
    assert told == 150 and len(workstation.kept) == last.NumberOfCompletedSuboperations


def test_the_last_status_says_what_became_of_all() -> None:
    def status(*states: LedgerState | None) -> int:
        progress = Progress(dict.fromkeys(f"1.{number}" for number in range(len(states))))
        for number, state in enumerate(states):
            progress.note(f"1.{number}", state)
        assert not progress.waiting
        return progress.status

    done, warning, rejected = LedgerState.DONE, LedgerState.WARNING, LedgerState.REJECTED
    assert [status(), status(done), status(done, warning), status(done, rejected)] == [0, 0, 0xB000, 0xB000]
    assert [status(rejected), status(None, rejected), status(warning, None)] == [0xA702, 0xA702, 0xB000]
    assert status(LedgerState.WAITING) == 0xA702
