"""What Orthanc and DCMTK hold is found, also with wildcards, ranges and names beyond ASCII."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from pydicom import dcmread

from dicomnode.errors import AssociationBroken, PeerRejected, PeerUnreachable
from dicomnode.finding import Finder
from dicomnode.peer import Peer
from dicomnode.question import Question
from tests.builders_dicom import write_ct_series, write_pet_series
from tests.builders_requestor import HANG_UP, HASTY, Heard, ScriptedPeer
from tests.builders_retrieve import OURS, as_peer, dcmqrscp, give, introduce
from tests.peers import Orthanc, free_port

STUDY, OTHER = "1.2.826.0.1.3680043.8.498.1", "1.2.826.0.1.3680043.8.498.2"


def made_up(folder: Path) -> list[Path]:
    """A study of a CT and a PET, and another patient's CT with an umlaut."""
    files = write_ct_series(folder / "ct", slices=3, study_instance_uid=STUDY, AccessionNumber="A1")
    files += write_pet_series(folder / "pet", slices=2, study_instance_uid=STUDY, AccessionNumber="A1")
    return files + write_ct_series(
        folder / "other",
        slices=2,
        study_instance_uid=OTHER,
        SpecificCharacterSet="ISO_IR 100",
        PatientID="PHANTOM-2",
        PatientName="Müller^Ä",
        AccessionNumber="A_1",
        StudyDate="20230101",
        SeriesDescription="Thorax 100% _",
    )


@pytest.fixture(scope="module", params=["orthanc", "dcmtk"])
def peer(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Peer]:
    folder = tmp_path_factory.mktemp(request.param)
    files = made_up(folder / "made")
    if request.param == "orthanc":
        orthanc = Orthanc(folder / "orthanc").start()
        introduce(orthanc, free_port())
        give(orthanc, files)
        yield as_peer(orthanc)
        orthanc.stop()
    else:
        with dcmqrscp(folder / "qrscp", files, node_port=free_port()) as known:
            yield known


@pytest.mark.peer
@pytest.mark.parametrize(
    ("question", "studies"),
    [
        (Question(), [OTHER, STUDY]),
        (Question(patient_id="PHANTOM-1"), [STUDY]),
        (Question(patient_id="PHANTOM-?"), [OTHER, STUDY]),
        (Question(patient_id="PHANTOM-9"), []),
        (Question(accession_number="A_1"), [OTHER]),
        (Question(accession_number="A%"), []),
        (Question(study_date="20240101-20241231"), [STUDY]),
        (Question(study_date="-20231231"), [OTHER]),
        (Question(study_instance_uid=STUDY), [STUDY]),
    ],
    ids=str,
)
def test_studies_are_found_by_what_is_asked(peer: Peer, question: Question, studies: list[str]) -> None:
    with Finder(peer, ae_title=OURS) as finder:
        assert [found["StudyInstanceUID"] for found in finder.studies(question)] == studies


@pytest.mark.peer
def test_series_are_found_through_their_studies_with_their_instances(peer: Peer) -> None:
    with Finder(peer, ae_title=OURS) as finder:
        found = list(finder.series(Question(modality=("CT",))))
        both = list(finder.series(Question(study_instance_uid=STUDY, modality=("CT", "PT"))))
        one = next(series for series in found if series.study_instance_uid == STUDY)
        instances = finder.instances(one)
        literal = list(finder.series(Question(series_description="*100%*")))
    assert sorted(series.study_instance_uid for series in found) == [STUDY, OTHER]
    assert sorted(series.values["Modality"] for series in both) == ["CT", "PT"]
    assert len(instances) == 3
    assert {each.sop_class_uid for each in instances} <= {"1.2.840.10008.5.1.4.1.1.2", ""}, "DCMTK names no class"
    # DCMTK knows no descriptions: what cannot be told to be wanted is not taken.
    assert [series.study_instance_uid for series in literal] == ([OTHER] if peer.ae_title == "ORTHANC" else [])
    assert one.instances in (3, None), "DCMTK does not count"


@pytest.mark.peer
def test_no_more_than_was_asked_for_is_given_and_the_association_goes_on(peer: Peer) -> None:
    with Finder(peer, ae_title=OURS) as finder:
        assert len(finder.studies(Question(), most=1)) == 1
        assert len(finder.studies(Question())) == 2


@pytest.mark.peer
def test_a_name_beyond_ascii_is_read_as_its_character_set_says(peer: Peer) -> None:
    with Finder(peer, ae_title=OURS) as finder:
        (found,) = finder.studies(Question(patient_id="PHANTOM-2"))
    assert found["PatientName"] == "Müller^Ä"


@pytest.mark.peer
@pytest.mark.parametrize("peer", ["orthanc"], indirect=True)
def test_a_peer_that_does_not_know_us_is_a_fault_and_not_an_empty_answer(peer: Peer) -> None:
    with pytest.raises((PeerRejected, PeerUnreachable)), Finder(peer, ae_title="STRANGER") as finder:
        finder.studies(Question())


def test_a_peer_that_breaks_off_between_two_answers_is_a_fault_and_not_an_answer() -> None:
    def pending_only(heard: Heard) -> list[bytes]:
        return heard.done(0xFF00)

    with (
        ScriptedPeer(pending_only) as scripted,
        pytest.raises(AssociationBroken, match="did not answer C-FIND"),
        Finder(scripted.peer, ae_title=OURS, patience=HASTY) as finder,
    ):
        finder.studies(Question())


def test_after_a_fault_the_next_question_is_asked_over_a_new_association() -> None:
    asked: list[Heard] = []

    def hangs_up_once(heard: Heard) -> list[bytes]:
        asked.append(heard)
        return HANG_UP if len(asked) == 1 else heard.done()

    with (
        ScriptedPeer(hangs_up_once) as scripted,
        Finder(scripted.peer, ae_title=OURS, patience=HASTY) as finder,
    ):
        with pytest.raises(AssociationBroken):
            finder.studies(Question())
        assert finder.studies(Question()) == [] and scripted.associations == 2


@pytest.mark.parametrize(
    ("status", "fault", "words"),
    [
        (0xA700, PeerUnreachable, "asked again later"),
        (0x0124, PeerRejected, "allow our AE title"),
        (0xC001, PeerRejected, "0xC001"),
    ],
)
def test_a_refusal_is_said_in_words(status: int, fault: type[Exception], words: str) -> None:
    with (
        ScriptedPeer(lambda heard: heard.done(status)) as scripted,
        pytest.raises(fault, match=words),
        Finder(scripted.peer, ae_title=OURS, patience=HASTY) as finder,
    ):
        finder.studies(Question())


def test_the_made_up_files_are_what_the_tests_say(tmp_path: Path) -> None:
    assert {str(dcmread(path).PatientID) for path in made_up(tmp_path)} == {"PHANTOM-1", "PHANTOM-2"}
