"""A derived job that waits for its destination, with its instances on disk and in the catalogue."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from pydicom import dcmread
from pynetdicom.sop_class import CTImageStorage

from dicomnode.send import Courier
from storage import catalog, deliveries, jobs
from storage.catalog import Instance
from storage.jobs import Event, NewJob, State
from tests.builders_dicom import write_ct_series


def derived_job(courier: Courier, folder: Path) -> int:
    """The number of a job that made four instances for `archive`."""
    now = datetime.now(UTC)
    instances = []
    for path in write_ct_series(folder / "derived", slices=4):
        dataset = dcmread(path)
        courier.files.keep_derived(dataset.SOPInstanceUID, path.read_bytes())
        instances.append(
            Instance(
                dataset.SOPInstanceUID, CTImageStorage, dataset.file_meta.TransferSyntaxUID, dataset.SeriesInstanceUID,
                dataset.StudyInstanceUID, "", now, "", 1, {},
            )
        )  # fmt: skip
    with courier.database.begin() as connection:
        new = NewJob("k", "1.2.3", "1.2", 1, "rule", "ct_denoising", "1", {}, ("1.2.3.4",), 1, ("archive",), now)
        job, _ = jobs.add_job(connection, new)
        jobs.move_job(connection, job.id, Event.CLAIM, expected=State.WAITING, now=now)
        series_uid = instances[0].series_instance_uid
        catalog.add_derived_series(connection, series_uid, instances)
        jobs.move_job(
            connection, job.id, Event.FINISH, expected=State.RUNNING, derived_series_instance_uid=series_uid, now=now
        )
        deliveries.plan_deliveries(connection, job.id, [one.sop_instance_uid for one in instances], now=now)
    return job.id
