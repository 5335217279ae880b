"""A waiting job gets what is here, asks peers for what is not, never reads half a series, and is refused in time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread
from pydicom.uid import generate_uid

from dicomnode.need_settings import NeedTable
from dicomnode.peer import Peer
from dicomnode.supply import Supplier
from storage import catalog, jobs, needs, sightings
from storage.database import Database
from storage.job_states import State
from storage.sightings import Sight
from tests.builders_dicom import write_ct_series, write_pet_series
from tests.builders_fetch import Holding
from tests.builders_requestor import Heard, ScriptedPeer
from tests.builders_retrieve import as_peer, give, introduce
from tests.peers import Orthanc, free_port, wait_until

STUDY = "1.2.826.0.1.3680043.8.498.78"
EARLIER = {"20230101": generate_uid(), "20230601": generate_uid(), "20991231": generate_uid()}


@pytest.fixture(scope="module")
def orthanc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    """Holds CT series of three studies of the patient, and one of a patient with the same ID."""
    folder = tmp_path_factory.mktemp("pacs")
    orthanc = Orthanc(folder / "orthanc").start()
    introduce(orthanc, free_port())
    for day, uid in EARLIER.items():
        give(orthanc, write_ct_series(folder / day, slices=3, series_instance_uid=uid, StudyDate=day))
    give(orthanc, write_ct_series(folder / "x", slices=3, StudyDate="20230801", PatientBirthDate="19770707"))
    yield orthanc
    orthanc.stop()


@pytest.fixture
def pacs(orthanc: Orthanc) -> Peer:
    return as_peer(orthanc)


def need(**more: Any) -> dict[str, Any]:
    """The definition of a CT, as it is kept with a job."""
    return NeedTable.model_validate({"modality": "CT", "every_s": 0.2, **more}).as_kept


def supplier(holding: Holding, filled: Callable[[], None] = lambda: None) -> Supplier:
    return Supplier(lambda: holding.config, holding.database, holding.fetcher, tell=holding.tell, filled=filled)


def open_needs(database: Database) -> list[needs.OpenNeed]:
    with database.read() as connection:
        return needs.open_needs(connection)


def chosen(database: Database, job_id: int) -> str:
    with database.read() as connection:
        return needs.inputs_of(connection, job_id)[0].series_instance_uid


def test_what_is_here_is_given_to_the_job_and_the_dispatcher_is_told(database: Database, tmp_path: Path) -> None:
    holding = Holding(database, tmp_path)
    ct = holding.receive(write_ct_series(tmp_path / "ct", study_instance_uid=STUDY))
    job = holding.job(holding.receive(write_pet_series(tmp_path / "pet", study_instance_uid=STUDY)), need())
    woken: list[bool] = []
    supplier(holding, filled=lambda: woken.append(True))()
    assert chosen(database, job.id) == ct and woken == [True]
    with database.read() as connection:
        assert [one.id for one in jobs.waiting_jobs(connection, datetime.now(UTC))] == [job.id]


def test_what_comes_later_by_itself_fills_the_need(database: Database, tmp_path: Path) -> None:
    holding = Holding(database, tmp_path)
    job = holding.job(holding.receive(write_pet_series(tmp_path / "pet", study_instance_uid=STUDY)), need())
    step = supplier(holding)
    step()
    with database.read() as connection:
        assert jobs.get_job(connection, job.id).reason == "waits for ct: a CT series of the same study has not come yet"
    ct = holding.receive(write_ct_series(tmp_path / "ct", study_instance_uid=STUDY))
    step()
    assert chosen(database, job.id) == ct


def test_a_series_of_which_a_peer_holds_more_is_not_read(database: Database, tmp_path: Path) -> None:
    holding = Holding(database, tmp_path)
    ct = holding.receive(write_ct_series(tmp_path / "ct", slices=4, study_instance_uid=STUDY))
    job = holding.job(holding.receive(write_pet_series(tmp_path / "pet", study_instance_uid=STUDY)), need())

    def seen(instances: int) -> None:
        with database.begin() as connection:
            sightings.saw(
                connection,
                peer="pacs",
                series_instance_uid=ct,
                study_instance_uid=STUDY,
                rule="job 1",
                state=Sight.WANTED,
                instances=instances,
                now=datetime.now(UTC),
            )

    seen(5)
    supplier(holding)()
    assert len(open_needs(database)) == 1, "it broke off half way"
    seen(4)
    supplier(holding)()
    assert chosen(database, job.id) == ct


def test_a_series_that_is_still_being_received_is_waited_for_beyond_the_limit(
    database: Database, tmp_path: Path
) -> None:
    holding = Holding(database, tmp_path)
    pet = holding.receive(write_pet_series(tmp_path / "pet", study_instance_uid=STUDY))
    job = holding.job(pet, need(), limit_s=0.001)
    for path in write_ct_series(tmp_path / "ct", study_instance_uid=STUDY):
        holding.files.keep_arrival(_uid(path), [path.read_bytes()])
    holding.list(close=False)
    time.sleep(0.01)
    supplier(holding)()
    assert len(open_needs(database)) == 1
    holding.list()
    supplier(holding)()
    assert chosen(database, job.id)


def _uid(path: Path) -> str:
    return str(dcmread(path).SOPInstanceUID)


def test_what_is_being_received_is_waited_for_though_another_fits_already(database: Database, tmp_path: Path) -> None:
    """Which CT is read must not hang on which of the two came first."""
    holding = Holding(database, tmp_path)
    frame = str(generate_uid())
    pet = holding.receive(write_pet_series(tmp_path / "pet", study_instance_uid=STUDY, FrameOfReferenceUID=frame))
    holding.receive(write_ct_series(tmp_path / "other", slices=9, study_instance_uid=STUDY))
    for path in write_ct_series(tmp_path / "ct", slices=3, study_instance_uid=STUDY, FrameOfReferenceUID=frame):
        holding.files.keep_arrival(_uid(path), [path.read_bytes()])
        ours = str(dcmread(path).SeriesInstanceUID)
    holding.list(close=False)
    job = holding.job(pet, need(**{"from": ["pacs"]}))
    step = supplier(holding)
    step()
    (lacking,) = open_needs(database)
    assert lacking.reason == "a CT series of the same study is being received" and lacking.tries == 0, "nobody is asked"
    holding.list()
    step()
    assert chosen(database, job.id) == ours


def test_a_slow_peer_is_asked_for_every_job_and_not_for_the_same_few_again(database: Database, tmp_path: Path) -> None:
    def slow(heard: Heard) -> list[bytes]:
        time.sleep(0.3)  # longer than it takes until the first job may be asked for again
        return heard.done()

    with ScriptedPeer(slow) as scripted:
        holding = Holding(database, tmp_path, scripted.peer)
        for number in range(4):
            holding.job(holding.receive(write_pet_series(tmp_path / str(number))), need(**{"from": ["pacs"]}))
        step = supplier(holding)

        def all_asked() -> bool:
            step()
            return all(one.tries for one in open_needs(database))

        wait_until(all_asked, seconds=20)


def test_a_job_whose_limit_ended_while_the_node_was_down_is_asked_for_once(database: Database, tmp_path: Path) -> None:
    holding = Holding(database, tmp_path)
    pet = holding.receive(write_pet_series(tmp_path / "pet"))
    job = holding.job(pet, need(**{"from": ["pacs"]}), limit_s=0.001)
    step = supplier(holding)

    def refused() -> bool:
        step()
        return not open_needs(database)

    wait_until(refused, seconds=20)
    with database.read() as connection:
        ended = jobs.get_job(connection, job.id)
    assert ended.reason_code == "input-missing" and "cannot be reached" in ended.reason


def test_a_peer_that_is_corrected_in_the_config_is_asked_for_what_waits(database: Database, tmp_path: Path) -> None:
    rules = '[needs.ct]\nmodality = "CT"\nfrom = ["pacs"]\nevery_s = 0.2\n'
    holding = Holding(database, tmp_path, rules=rules)
    holding.job(holding.receive(write_pet_series(tmp_path / "pet")), need(**{"from": ["gone"]}))
    other = need(modality="MR", **{"from": ["gone"]})  # means another series than [needs.ct]: it stays as it was
    holding.job(holding.receive(write_pet_series(tmp_path / "pet2")), other)
    step = supplier(holding)

    def tried() -> bool:
        step()
        return all(one.tries for one in open_needs(database))

    wait_until(tried, seconds=20)
    first, second = (one.reason for one in open_needs(database))
    assert "pacs: PACS at 127.0.0.1:1 cannot be reached" in first and "gone is no longer" in second


@pytest.mark.peer
def test_a_candidate_that_cannot_be_had_does_not_keep_the_others_from_being_asked_for(
    database: Database, tmp_path: Path, pacs: Peer, orthanc: Orthanc
) -> None:
    """The largest is of a class that the node does not keep; the next one of the study is."""
    small = generate_uid()
    of: dict[str, Any] = {"study_instance_uid": generate_uid(), "PatientID": "PHANTOM-2"}
    ultrasound: dict[str, Any] = {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.6.1"}
    foreign = write_ct_series(tmp_path / "foreign", slices=5, **of, **ultrasound)
    for path in foreign:
        dataset = dcmread(path)
        dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
        dataset.save_as(path)
    give(orthanc, foreign)
    give(
        orthanc,
        write_ct_series(tmp_path / "ct", slices=3, **of, series_instance_uid=small),
    )
    holding = Holding(database, tmp_path, pacs)
    pet = holding.receive(write_pet_series(tmp_path / "pet", **of))
    job = holding.job(pet, need(how="get", **{"from": ["pacs"]}))
    step = supplier(holding)

    def filled() -> bool:
        step()
        holding.list()
        return not open_needs(database)

    wait_until(filled, seconds=30)
    assert chosen(database, job.id) == small


@pytest.mark.peer
def test_of_several_at_the_peer_the_one_in_the_frame_of_reference_is_fetched(
    database: Database, tmp_path: Path, pacs: Peer, orthanc: Orthanc
) -> None:
    frame, ours = generate_uid(), generate_uid()
    of: dict[str, Any] = {"study_instance_uid": generate_uid(), "PatientID": "PHANTOM-2"}
    give(orthanc, write_ct_series(tmp_path / "large", slices=6, **of))
    in_frame: dict[str, Any] = {"series_instance_uid": ours, "FrameOfReferenceUID": frame}
    give(orthanc, write_ct_series(tmp_path / "ct", slices=3, **of, **in_frame))
    holding = Holding(database, tmp_path, pacs)
    pet = holding.receive(write_pet_series(tmp_path / "pet", **of, FrameOfReferenceUID=frame))
    job = holding.job(pet, need(how="get", **{"from": ["pacs"]}))
    step = supplier(holding)

    def filled() -> bool:
        step()
        holding.list()
        return not open_needs(database)

    wait_until(filled, seconds=30)
    assert chosen(database, job.id) == ours
    assert [details["fetched"] for event, _, details in holding.told if event == "series retrieved"] == [3]


def test_after_the_time_limit_the_job_is_refused_with_its_reason(database: Database, tmp_path: Path) -> None:
    holding = Holding(database, tmp_path)
    job = holding.job(holding.receive(write_pet_series(tmp_path / "pet")), need(), limit_s=0.001)
    time.sleep(0.01)
    supplier(holding)()
    with database.read() as connection:
        refused = jobs.get_job(connection, job.id)
    assert (refused.state, refused.reason_code) == (State.REFUSED, "input-missing")
    assert "no CT series of the same study that fits came within 0.001 s" in refused.reason


def test_a_peer_that_is_away_is_asked_again_and_its_silence_is_the_reason(database: Database, tmp_path: Path) -> None:
    holding = Holding(database, tmp_path)
    job = holding.job(holding.receive(write_pet_series(tmp_path / "pet")), need(**{"from": ["pacs", "gone"]}))
    step = supplier(holding)

    def tried() -> bool:
        step()
        return open_needs(database)[0].tries >= 2

    wait_until(tried, seconds=20)
    with database.read() as connection:
        reason = jobs.get_job(connection, job.id).reason
    assert "pacs: PACS at 127.0.0.1:1 cannot be reached" in reason
    assert "gone is no longer in node.toml" in reason


def test_a_peer_that_answers_nonsense_is_asked_again(database: Database, tmp_path: Path) -> None:
    with ScriptedPeer(lambda heard: [b"\xff" * 10]) as scripted:
        holding = Holding(database, tmp_path, scripted.peer)
        holding.job(holding.receive(write_pet_series(tmp_path / "pet")), need(**{"from": ["pacs"]}))
        step = supplier(holding)

        def tried() -> bool:
            step()
            return open_needs(database)[0].tries >= 2

        wait_until(tried, seconds=20)
    assert "pacs: " in open_needs(database)[0].reason


@pytest.mark.peer
def test_the_latest_earlier_ct_of_the_same_patient_is_fetched(database: Database, tmp_path: Path, pacs: Peer) -> None:
    holding = Holding(database, tmp_path, pacs)
    pet = holding.receive(write_pet_series(tmp_path / "pet"))
    job = holding.job(pet, need(of="earlier", how="get", **{"from": ["pacs"]}))
    step = supplier(holding)

    def filled() -> bool:
        step()
        holding.list()
        return not open_needs(database)

    wait_until(filled, seconds=30)
    assert chosen(database, job.id) == EARLIER["20230601"]
    told = [details for event, _, details in holding.told if event == "series retrieved"]
    assert [(one["series_instance_uid"], one["fetched"], one["by"]) for one in told] == [
        (EARLIER["20230601"], 3, f"job {job.id}")
    ]
    with database.read() as connection:
        held = {one.series_instance_uid for one in catalog.list_series(connection)}
    assert held == {pet, EARLIER["20230601"]}, "nothing else was fetched, of no other patient above all"


@pytest.mark.peer
def test_what_the_peer_does_not_hold_is_said(database: Database, tmp_path: Path, pacs: Peer) -> None:
    holding = Holding(database, tmp_path, pacs)
    holding.job(holding.receive(write_pet_series(tmp_path / "pet")), need(modality="MR", **{"from": ["pacs"]}))
    step = supplier(holding)

    def asked() -> bool:
        step()
        return bool(open_needs(database)[0].reason)

    wait_until(asked, seconds=20)
    found = open_needs(database)[0]
    assert found.reason == "pacs: holds no MR series of the same study"
    assert found.next_try_at is not None and found.next_try_at > datetime.now(UTC) - timedelta(seconds=5)


def test_a_patient_id_with_a_wildcard_is_never_asked_for(database: Database, tmp_path: Path) -> None:
    with ScriptedPeer() as scripted:
        holding = Holding(database, tmp_path, scripted.peer)
        pet = holding.receive(write_pet_series(tmp_path / "pet", PatientID="4*"))
        holding.job(pet, need(of="earlier", **{"from": ["pacs"]}))
        step = supplier(holding)

        def asked() -> bool:
            step()
            return bool(open_needs(database)[0].reason)

        wait_until(asked, seconds=20)
        assert scripted.heard == []
    assert "wildcard" in open_needs(database)[0].reason
