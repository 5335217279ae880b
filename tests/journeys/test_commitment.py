"""Storage commitment with Orthanc in both roles: nothing is closed or promised that is not kept, whoever goes away."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread
from pydicom.uid import CTImageStorage, generate_uid

from tests.builders_commitment import CommittingPeer
from tests.builders_dicom import write_ct_series
from tests.peers import NODE_AE, PACS_AE, Orthanc, RunningNode, free_port, storescu, wait_until

pytestmark = pytest.mark.peer
COMMITS = "commitment = true\ncommitment_report_s = 1.0\n"
SLICES = 3


def happened(node: RunningNode, event: str) -> list[dict[str, Any]]:
    return [one for one in node.audit() if one["event"] == event]


def delivery(node: RunningNode) -> dict[str, Any]:
    [job] = node.jobs()
    [only] = job["deliveries"]
    return {"job": job["state"], **only}


def test_a_pacs_that_was_down_between_request_and_report_and_lost_an_image_gets_it_again_and_only_then_is_it_delivered(
    tmp_path: Path, make_node: Callable[..., RunningNode], database_url: str
) -> None:
    node_port = free_port()
    # It takes the request of a modality that it knows, and can report to nobody at that port.
    deaf = Orthanc(tmp_path / "orthanc", modalities={"node": [NODE_AE, "127.0.0.1", free_port()]}).start()
    node = make_node(deaf.dicom_port, port=node_port, more=COMMITS, database=database_url).start()
    try:
        assert storescu(node.port, write_ct_series(tmp_path / "source", slices=SLICES)).returncode == 0
        wait_until(lambda: happened(node, "commitment overdue"), what="a request without a report")
        assert delivery(node)["state"] == "committing" and delivery(node)["job"] == "sending"
    finally:
        deaf.stop()
    wait_until(lambda: happened(node, "lane broken"), what="the PACS being missed")
    assert node.stop() == 0
    pacs = Orthanc(
        tmp_path / "orthanc", deaf.dicom_port, deaf.http_port, modalities={"node": [NODE_AE, "127.0.0.1", node_port]}
    ).start()
    try:
        lost, *_ = [(uid, key) for one in pacs.series().values() for uid, key in one["instances"].items()]
        pacs.delete(f"/instances/{lost[1]}")
        node.start()
        node.wait_for_jobs({"delivered"}, count=1)
        [held] = pacs.series().values()
        assert len(held["instances"]) == SLICES and lost[0] in held["instances"]
    finally:
        pacs.stop()
    [failed] = happened(node, "commitment failed")
    assert failed["details"]["reasons"] == {lost[0]: "0x0112"} and failed["details"]["committed"] == SLICES - 1
    last = happened(node, "commitment reported")[-1]
    assert (last["details"]["asked"], last["details"]["committed"]) == (1, 1), "only what was lost is asked for again"
    assert delivery(node)["state"] == "done"


def test_orthanc_hears_which_of_its_images_we_keep_and_which_not(
    tmp_path: Path, make_node: Callable[..., RunningNode]
) -> None:
    pacs = Orthanc(tmp_path / "orthanc")
    node = make_node(pacs.dicom_port)
    pacs.modalities = {"node": [NODE_AE, "127.0.0.1", node.port]}
    pacs.start()
    try:
        node.start()
        files = write_ct_series(tmp_path / "source", slices=SLICES)
        ids = [pacs.post("/instances", path.read_bytes())["ID"] for path in files]
        pacs.post("/modalities/node/store", ids)
        never_sent, held = generate_uid(), [dcmread(path) for path in files]
        wanted = [[one.SOPClassUID, one.SOPInstanceUID] for one in held]
        wanted.append([CTImageStorage, never_sent])
        asked = pacs.post("/modalities/node/storage-commitment", {"DicomInstances": wanted})
        report = wait_until(
            lambda: (found := pacs.get(f"/storage-commitment/{asked['ID']}"))["Status"] != "Pending" and found,
            what="the report",
        )
    finally:
        pacs.stop()
    assert report["Status"] == "Failure" and report["RemoteAET"] == NODE_AE
    assert {one["SOPInstanceUID"] for one in report["Success"]} == {str(one.SOPInstanceUID) for one in held}
    assert [(one["SOPInstanceUID"], one["FailureReason"]) for one in report["Failures"]] == [(never_sent, 0x0112)]
    assert (
        wait_until(lambda: happened(node, "commitment refused"), what="the audit")[0]["details"]["committed"] == SLICES
    )


def test_a_scanner_that_was_away_is_told_after_the_node_was_killed_and_started_again(
    tmp_path: Path, make_node: Callable[..., RunningNode]
) -> None:
    scanner = CommittingPeer(ae_title=PACS_AE)
    node = make_node(scanner.port).start()
    files = write_ct_series(tmp_path / "source", slices=SLICES)
    assert storescu(node.port, files, calling=PACS_AE).returncode == 0
    transaction = scanner.ask(node.port, [dcmread(path) for path in files])
    wait_until(lambda: "the report to pacs waits" in node.log(), what="a report that nobody hears")
    node.kill()
    node.start()
    with scanner.listening():
        report = wait_until(lambda: scanner.heard.get(transaction), what="the report")
    assert len(report.committed) == SLICES and not report.failed
    wait_until(lambda: happened(node, "commitment given"), what="the audit")
