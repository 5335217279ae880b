"""The node as an archive: Orthanc and DCMTK find in it what it received, and have it sent to where they may."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from tests.builders_dicom import write_ct_series
from tests.builders_query import dcmtk, statuses
from tests.builders_receive import sop_instance_uid_of
from tests.peers import NODE_AE, PACS_AE, Orthanc, RunningNode, storescu, wait_until

pytestmark = pytest.mark.peer
STUDY = "1.2.826.0.1.3680043.10.543.5.1"


def post(orthanc: Orthanc, path: str, body: Any, *, method: str = "POST") -> Any:
    """The JSON that Orthanc answers to a request with a JSON body."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{orthanc.http_port}{path}", json.dumps(body).encode(), method=method
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        content = answer.read()
    return json.loads(content) if content else None


def test_orthanc_finds_a_study_in_the_node_and_has_it_moved_to_itself(tmp_path: Path) -> None:
    orthanc = Orthanc(tmp_path / "orthanc").start()
    node = RunningNode(tmp_path / "node", orthanc.dicom_port, rules="", quiet_seconds=0.5).start()
    try:
        more: dict[str, Any] = {"PatientName": "Müller^Hans", "PatientID": "P%1", "StudyDate": "20240229"}
        files = write_ct_series(tmp_path / "ct", slices=5, study_instance_uid=STUDY, **more)
        assert storescu(node.port, files).returncode == 0
        node_as_modality = {"AET": NODE_AE, "Host": "127.0.0.1", "Port": node.port}
        post(orthanc, "/modalities/node", node_as_modality, method="PUT")

        def asked(level: str, **query: str) -> list[dict[str, str]]:
            answer = post(orthanc, "/modalities/node/query", {"Level": level, "Query": query})
            path = f"/queries/{answer['ID']}/answers"
            return [
                {"query": answer["ID"]} | orthanc.get(f"{path}/{one}/content?simplify") for one in orthanc.get(path)
            ]

        counts = {"NumberOfStudyRelatedInstances": "", "ModalitiesInStudy": ""}
        query = {"PatientName": "MULLER*", "StudyDate": "20240101-20241231", **counts}
        [study] = wait_until(
            lambda: [one for one in asked("Study", **query) if one["NumberOfStudyRelatedInstances"] == "5"],
            seconds=30,
            what="the study being found whole",
        )
        assert (study["StudyInstanceUID"], study["PatientID"], study["ModalitiesInStudy"]) == (STUDY, "P%1", "CT")
        assert study["PatientName"] == "Müller^Hans"
        assert not asked("Study", PatientID="P_1") and len(asked("Patient", PatientID="P%1")) == 1
        [series] = asked("Series", StudyInstanceUID=STUDY, Modality="")
        assert series["Modality"] == "CT"
        of_series = {"StudyInstanceUID": STUDY, "SeriesInstanceUID": series["SeriesInstanceUID"]}
        assert len(asked("Instance", **of_series, SOPInstanceUID="")) == 5

        post(orthanc, f"/queries/{study['query']}/retrieve", {"TargetAet": PACS_AE, "Synchronous": True})
        [(uid, held)] = orthanc.series().items()
        assert uid == series["SeriesInstanceUID"] and held["study"] == STUDY
        assert set(held["instances"]) == {sop_instance_uid_of(file) for file in files}
        told = dcmtk("findscu", node.port, "-S", "-k", "QueryRetrieveLevel=STUDY", calling="SCANNER")
        assert statuses(told) == [0x0124]
        wait_until(lambda: {"query refused", "retrieve answered"} <= {one["event"] for one in node.audit()})
        [moved] = [one for one in node.audit() if one["event"] == "retrieve answered"]
        assert (moved["peer"], moved["details"]["sent"], moved["details"]["destination"]) == ("pacs", 5, PACS_AE)
        assert "ller" not in json.dumps([one["details"] for one in node.audit()], ensure_ascii=False)
    finally:
        node.stop()
        orthanc.stop()


def test_what_was_received_is_got_back_byte_for_byte_while_the_node_goes_on_receiving(tmp_path: Path) -> None:
    viewer = '[peers.viewer]\nae_title = "VIEWER"\nmay = ["query", "retrieve"]\n'
    node = RunningNode(tmp_path / "node", 1, rules="", quiet_seconds=0.5, more=viewer).start()
    try:
        files = write_ct_series(tmp_path / "ct", slices=8, study_instance_uid=STUDY)
        others = write_ct_series(tmp_path / "other", slices=8)
        assert storescu(node.port, files).returncode == 0
        out = tmp_path / "out"
        out.mkdir()
        study = ("-S", "-k", "QueryRetrieveLevel=STUDY", "-k", f"StudyInstanceUID={STUDY}")
        wait_until(lambda: statuses(dcmtk("findscu", node.port, *study)) == [0xFF00, 0], what="the study being listed")
        assert storescu(node.port, others).returncode == 0
        assert statuses(dcmtk("getscu", node.port, *study, "-od", str(out)))[-1] == 0x0000
        assert {sop_instance_uid_of(one) for one in out.iterdir()} == {sop_instance_uid_of(one) for one in files}
    finally:
        node.stop()
