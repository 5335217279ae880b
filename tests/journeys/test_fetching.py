"""A PET whose rule needs the CT: fetched from Orthanc, the job runs; not there, it is refused. And polling."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydicom.uid import generate_uid

from tests.builders_dicom import ct_values, write_ct_series, write_pet_series
from tests.builders_retrieve import give, introduce
from tests.peers import Orthanc, RunningNode, storescu, wait_until

pytestmark = pytest.mark.peer
PLUGGED = Path(__file__).parents[1] / "plugged"
STUDY = "1.2.826.0.1.3680043.8.498.77"

RULES = """
[[rules]]
name = "PET with its CT"
when = 'Modality == "PT"'
run = "pet_with_ct"
send_to = ["pacs"]
needs = ["ct"]

[needs.ct]
modality = "CT"
from = ["pacs"]
limit_s = {limit_s}
every_s = 0.5
"""


@pytest.fixture
def node(make_node: Callable[..., RunningNode], pacs: Orthanc, monkeypatch: pytest.MonkeyPatch) -> RunningNode:
    """A node that knows the test's pipeline, and that Orthanc knows; not started."""
    monkeypatch.setenv("PYTHONPATH", str(PLUGGED))
    made = make_node(pacs.dicom_port)
    introduce(pacs, made.port)
    return made


def send_pet(node: RunningNode, folder: Path, **attributes: Any) -> None:
    pet = write_pet_series(folder, slices=4, **{"study_instance_uid": STUDY, **attributes})
    assert storescu(node.port, pet).returncode == 0


def test_the_ct_of_a_pet_is_fetched_and_the_job_runs_though_the_node_died_while_it_waited(
    node: RunningNode, pacs: Orthanc, tmp_path: Path
) -> None:
    ct_uid = generate_uid()
    node.rules = RULES.format(limit_s=300.0)
    node.start()
    send_pet(node, tmp_path / "pet")
    wait_until(lambda: [job for job in node.jobs() if job["reason"]], seconds=30)
    node.kill()
    give(pacs, write_ct_series(tmp_path / "ct", slices=7, study_instance_uid=STUDY, series_instance_uid=ct_uid))
    node.start()
    (job,) = node.wait_for_jobs({"delivered"}, count=1)
    events = {row["event"]: row for row in node.audit(job["series_instance_uid"])}
    assert events["input chosen"]["details"]["input_series_instance_uid"] == ct_uid
    derived = events["derived"]["details"]
    assert derived["inputs"] == {"ct": ct_uid}
    assert derived["measurements"]["ct_slices"] == 7
    assert derived["measurements"]["ct_highest"] == ct_values(7, 64, 64).max()
    (fetched,) = [row["details"] for row in node.audit(ct_uid) if row["event"] == "series retrieved"]
    assert (fetched["how"], fetched["fetched"], fetched["by"]) == ("C-MOVE", 7, f"job {job['id']}")
    assert job["derived_series_instance_uid"] in pacs.series()


def test_a_ct_that_nobody_has_is_a_refusal_with_its_reason_after_the_time_limit(
    node: RunningNode, pacs: Orthanc, tmp_path: Path
) -> None:
    node.rules = RULES.format(limit_s=5.0)
    node.start()
    other = write_ct_series(tmp_path / "other", slices=3, study_instance_uid=STUDY, PatientID="SOMEBODY-ELSE")
    assert storescu(node.port, other).returncode == 0
    send_pet(node, tmp_path / "pet")
    waiting = wait_until(lambda: [job for job in node.jobs() if job["reason"]], seconds=30)
    assert waiting[0]["state"] == "waiting"
    assert waiting[0]["reason"] == "waits for ct: pacs: holds no CT series of the same study"
    (job,) = node.wait_for_jobs({"refused"}, count=1, seconds=60)
    assert job["reason_code"] == "input-missing", "another patient's CT is never read"
    assert "holds no CT series of the same study" in job["reason"]

    # It is entered at the PACS, and an operator asks again: the whole time limit begins anew.
    give(pacs, write_ct_series(tmp_path / "ct", slices=5, study_instance_uid=STUDY))
    assert node.command("requeue", str(job["id"])).returncode == 0
    node.wait_for_jobs({"delivered"}, count=1)


POLLED = """
[[retrieve]]
name = "new CT"
from = "pacs"
modality = ["CT"]
days = 3650
every_minutes = 0.01
"""


def test_what_is_new_at_the_pacs_is_fetched_once_also_after_a_restart(
    node: RunningNode, pacs: Orthanc, tmp_path: Path
) -> None:
    node.rules = POLLED
    first, second = generate_uid(), generate_uid()
    study = generate_uid()
    give(pacs, write_ct_series(tmp_path / "first", slices=4, study_instance_uid=study, series_instance_uid=first))
    give(pacs, write_pet_series(tmp_path / "pet", slices=2, study_instance_uid=study))
    node.start()

    def fetched() -> list[tuple[str, int, int]]:
        rows = [row["details"] for row in node.audit() if row["event"] == "series retrieved"]
        return [(row["series_instance_uid"], row["held"], row["fetched"]) for row in rows]

    def closed(uid: str) -> list[dict[str, Any]]:
        return [row for row in node.audit(uid) if row["event"] == "series closed"]

    wait_until(lambda: closed(first), seconds=30, what="the first series being routed")
    assert fetched() == [(first, 0, 4)]
    node.kill()
    give(pacs, write_ct_series(tmp_path / "second", slices=3, study_instance_uid=study, series_instance_uid=second))
    node.start()
    wait_until(lambda: closed(second), seconds=30, what="the second series being routed")
    assert fetched() == [(first, 0, 4), (second, 0, 3)], "nothing twice, and nothing but CT"
