"""Bad input and bad peers: each is answered clearly, and nothing is lost."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from pydicom import dcmread
from pynetdicom import AE
from pynetdicom.sop_class import CTImageStorage

from tests.builders_dicom import write_ct_series
from tests.peers import NODE_AE, Orthanc, RunningNode, free_port, storescp, storescu, wait_until
from tests.peers_config import RULES_TOML

pytestmark = pytest.mark.peer


def test_an_unknown_caller_is_refused_and_audited(
    pacs: Orthanc, make_node: Callable[..., RunningNode], tmp_path: Path
) -> None:
    node = make_node(pacs.dicom_port).start()
    answer = storescu(node.port, write_ct_series(tmp_path / "source", slices=1), calling="STRANGER")
    assert answer.returncode != 0 and "Calling AE Title Not Recognized" in answer.stderr + answer.stdout
    refused = wait_until(lambda: [row for row in node.audit() if row["event"] == "association refused"])
    assert refused[0]["details"]["calling_ae_title"] == "STRANGER"


def test_a_wrong_called_title_is_refused(pacs: Orthanc, make_node: Callable[..., RunningNode], tmp_path: Path) -> None:
    node = make_node(pacs.dicom_port).start()
    answer = storescu(node.port, write_ct_series(tmp_path / "source", slices=1), called="SOMEBODY")
    assert answer.returncode != 0 and "Called AE Title Not Recognized" in answer.stderr + answer.stdout


def test_a_config_with_a_typo_stops_the_start_and_names_file_key_and_word(
    pacs: Orthanc, make_node: Callable[..., RunningNode]
) -> None:
    node = make_node(pacs.dicom_port, rules='[[rules]]\nname = "x"\nwhen = \'Modalty == "CT"\'\nrun = ""\n')
    node.write_config()
    for command in ("check", "run"):
        answer = node.command(command)
        assert answer.returncode == 1
        assert "rules.toml" in answer.stderr and "Modalty" in answer.stderr and "Traceback" not in answer.stderr


def test_a_bad_file_at_reload_keeps_the_old_rules_and_says_why_and_a_good_one_is_taken(
    pacs: Orthanc, make_node: Callable[..., RunningNode], tmp_path: Path
) -> None:
    node = make_node(pacs.dicom_port).start()
    assert node.process is not None
    (node.config / "rules.toml").write_text('[[rules]]\nname = "x"\nwhen = "Nonsense == 1"\nrun = ""\n')
    node.process.send_signal(signal.SIGHUP)
    said = wait_until(lambda: [row for row in node.audit() if row["event"] == "config not reloaded"])
    assert "Nonsense" in said[0]["details"]["reason"]
    assert storescu(node.port, write_ct_series(tmp_path / "one", slices=2)).returncode == 0
    assert node.wait_for_jobs({"delivered"}, count=1)

    (node.config / "rules.toml").write_text("")
    node.process.send_signal(signal.SIGHUP)
    wait_until(lambda: [row for row in node.audit() if row["event"] == "config reloaded"])
    files = write_ct_series(tmp_path / "two", slices=2)
    assert storescu(node.port, files).returncode == 0
    series_uid = dcmread(files[0]).SeriesInstanceUID
    wait_until(lambda: [row for row in node.audit(series_uid) if row["event"] == "series closed"])
    assert len(node.jobs()) == 1


def test_what_is_not_a_data_set_is_never_answered_with_success(
    pacs: Orthanc, make_node: Callable[..., RunningNode], tmp_path: Path
) -> None:
    node = make_node(pacs.dicom_port).start()
    junk = tmp_path / "junk.dcm"
    junk.write_bytes(b"this is not DICOM" * 100)
    assert storescu(node.port, [junk]).returncode != 0  # DCMTK does not even send it

    from pydicom.dataset import Dataset

    entity = AE("SCANNER")
    entity.add_requested_context(CTImageStorage)
    association = entity.associate("127.0.0.1", node.port, ae_title=NODE_AE)
    empty = Dataset()
    empty.SOPClassUID, empty.SOPInstanceUID = CTImageStorage, "1.2.3.4"
    empty.file_meta = dcmread(write_ct_series(tmp_path / "source", slices=1)[0]).file_meta
    status = association.send_c_store(empty)
    association.release()
    assert status.Status == 0xA900
    assert not list((node.folder / "var" / "arrivals").glob("*"))


def test_a_series_without_positions_is_refused_with_a_reason_and_stays_here(
    pacs: Orthanc, make_node: Callable[..., RunningNode], tmp_path: Path
) -> None:
    node = make_node(pacs.dicom_port).start()
    files = write_ct_series(tmp_path / "source", slices=3, ImagePositionPatient=None)
    assert storescu(node.port, files).returncode == 0
    job = node.wait_for_jobs({"refused"}, count=1)[0]
    assert "position" in job["reason"].lower() and job["reason_code"]
    assert len(list((node.folder / "var" / "instances").rglob("*.dcm"))) == 3
    assert pacs.series() == {}


def test_a_pacs_that_is_down_gets_everything_once_it_is_back(
    make_node: Callable[..., RunningNode], tmp_path: Path
) -> None:
    pacs = Orthanc(tmp_path / "orthanc")
    node = make_node(pacs.dicom_port).start()
    assert storescu(node.port, write_ct_series(tmp_path / "source", slices=3)).returncode == 0
    waiting = wait_until(
        lambda: [j for j in node.jobs() if j["deliveries"] and j["deliveries"][0]["reason"]], what="a reason"
    )
    assert "cannot be reached" in waiting[0]["deliveries"][0]["reason"]
    try:
        pacs.start()
        delivered = node.wait_for_jobs({"delivered"}, count=1)[0]
        assert len(pacs.series()[delivered["derived_series_instance_uid"]]["instances"]) == 3
        assert delivered["attempts"] == 1  # the pipeline ran once
    finally:
        node.stop()
        pacs.stop()


def test_a_pacs_that_refuses_holds_up_no_other_destination(
    pacs: Orthanc, make_node: Callable[..., RunningNode], tmp_path: Path
) -> None:
    port = free_port()
    rules = RULES_TOML.replace('send_to = ["pacs"]', 'send_to = ["archive", "pacs"]')
    archive = f'[peers.archive]\nae_title = "ARCHIVE"\nhost = "127.0.0.1"\nport = {port}\nmay = []\n'
    node = make_node(pacs.dicom_port, rules=rules, more=archive)

    def states() -> dict[str, str]:
        jobs = node.jobs()
        return {one["destination"]: one["state"] for one in jobs[0]["deliveries"]} if jobs else {}

    with storescp(port, "--refuse"):
        node.start()
        assert storescu(node.port, write_ct_series(tmp_path / "source", slices=2)).returncode == 0
        wait_until(lambda: states() == {"archive": "waiting", "pacs": "done"}, what="delivery to the PACS alone")
        wait_until(
            lambda: (
                "reject" in next(o["reason"] or "" for o in node.jobs()[0]["deliveries"] if o["state"] == "waiting")
            ),
            what="the reason",
        )
    with storescp(port, "-od", str(tmp_path)):
        node.wait_for_jobs({"delivered"}, count=1)
    assert len(list(tmp_path.glob("CT*"))) == 2


def test_a_pacs_that_breaks_off_in_the_middle_gets_only_what_is_missing(
    make_node: Callable[..., RunningNode], tmp_path: Path
) -> None:
    port = free_port()
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    node = make_node(port, retry_first_s=2.0)
    with storescp(port, "--abort-after", "-od", str(first)):
        node.start()
        assert storescu(node.port, write_ct_series(tmp_path / "source", slices=6)).returncode == 0
        wait_until(lambda: [j for j in node.jobs() if j["deliveries"] and j["deliveries"][0]["attempts"] >= 1])
    with storescp(port, "-od", str(second)):
        node.wait_for_jobs({"delivered"}, count=1)
    node.stop()
    held_by_first, held_by_second = ({path.name for path in folder.iterdir()} for folder in (first, second))
    assert len(held_by_first | held_by_second) == 6


def test_a_peer_without_the_right_to_store_is_told_so(
    pacs: Orthanc, make_node: Callable[..., RunningNode], tmp_path: Path
) -> None:
    node = make_node(pacs.dicom_port, more='[peers.viewer]\nae_title = "VIEWER"\nmay = ["query"]\n').start()
    answer = storescu(node.port, write_ct_series(tmp_path / "source", slices=1), calling="VIEWER")
    assert answer.returncode != 0 or "0124" in answer.stderr + answer.stdout
    assert not list((node.folder / "var" / "instances").rglob("*.dcm"))


def test_a_delivery_to_a_peer_that_left_the_config_says_so_and_is_not_forgotten(
    make_node: Callable[..., RunningNode], tmp_path: Path
) -> None:
    node = make_node(free_port()).start()
    assert node.process is not None
    assert storescu(node.port, write_ct_series(tmp_path / "source", slices=1)).returncode == 0
    wait_until(lambda: [j for j in node.jobs() if j["deliveries"] and j["deliveries"][0]["attempts"] >= 1])
    text = (node.config / "node.toml").read_text()
    (node.config / "node.toml").write_text(text[: text.index("[peers.pacs]")])
    (node.config / "rules.toml").write_text("")
    node.process.send_signal(signal.SIGHUP)
    wait_until(
        lambda: "no longer a peer" in (node.jobs()[0]["deliveries"][0]["reason"] or ""),
        what="the reason of the delivery",
    )
    assert node.jobs()[0]["state"] == "sending"
