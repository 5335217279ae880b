"""What tests of retention arrange with: series in a catalogue, with files of some age."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path

from storage import audit, catalog, deliveries, jobs, retention
from storage.catalog import Instance
from storage.database import Database
from storage.instance_files import InstanceFiles
from storage.jobs import Event, Job, State
from storage.retention import Family, Remover
from tests.storage.builders_storage import NOW, instance, job_in

DAY = 86400.0
OLD = NOW - timedelta(days=100)
KEEP = timedelta(days=30)


class Store:
    """A database and files beside it; every instance's file is a day's work old unless said otherwise."""

    def __init__(self, database: Database, folder: Path) -> None:
        self.database, self.folder, self.files = database, folder, InstanceFiles(folder)
        self.remover = Remover(database, self.files, folder)

    def receive(self, series: str, *, count: int = 3, at: datetime = OLD) -> list[Instance]:
        """A received series, whole, in catalogue and on disk."""
        made = [instance(number, series=series, at=at) for number in range(1, count + 1)]
        for one in made:
            self.files.keep_arrival(one.sop_instance_uid, [one.sop_instance_uid.encode() * 100])
        with self.database.begin() as connection:
            catalog.add_instances(connection, made)
            grown = catalog.get_series(connection, series)
            catalog.close_series(
                connection,
                series,
                generation=grown.generation,
                instance_count=grown.instance_count,
                because="all here",
                now=at,
            )
        for one in made:
            os.utime(self.files.settle(one.sop_instance_uid), (at.timestamp(), at.timestamp()))
        return made

    def job(self, state: State, series: str, key: str) -> Job:
        """A job on the series that has come to the state."""
        with self.database.begin() as connection:
            sources = tuple(catalog.instance_uids(connection, series))
            return job_in(connection, state, key=key * 64, series_instance_uid=series, source_sop_instance_uids=sources)

    def delivered(self, series: str, key: str, *, derived: str) -> Job:
        """A delivered job on the series that made another."""
        job = self.job(State.RUNNING, series, key)
        made = [instance(number, series=derived, at=OLD) for number in range(1, 4)]
        for one in made:
            self.files.keep_derived(one.sop_instance_uid, one.sop_instance_uid.encode() * 100)
            os.utime(self.files.path_of(one.sop_instance_uid), (OLD.timestamp(), OLD.timestamp()))
        uids = [one.sop_instance_uid for one in made]
        with self.database.begin() as connection:
            jobs.move_job(
                connection,
                job.id,
                Event.FINISH,
                expected=State.RUNNING,
                derived_series_instance_uid=derived,
                now=OLD,
            )
            catalog.add_derived_series(connection, derived, made)
            details = {"derived_series_instance_uid": derived, "beside": {}}
            audit.append(connection, "derived", series_instance_uid=series, job_id=job.id, details=details)
            deliveries.plan_deliveries(connection, job.id, uids, now=OLD)
            done = [deliveries.Result(uid, deliveries.LedgerState.DONE, 0) for uid in uids]
            deliveries.record_results(connection, job.id, "pacs", done, now=OLD)
            deliveries.finish_delivery(connection, job.id, "pacs", now=OLD)
            return jobs.get_job(connection, job.id)

    def removable(self, *, keep: timedelta | None = KEEP, make_room_bytes: float = 0, free: int = 0) -> list[Family]:
        """What would go now."""
        with self.database.read() as connection:
            planned = retention.plan_removals(
                connection, keep=keep, make_room_bytes=make_room_bytes, free_bytes=free, now=NOW
            )
            return [family for family, _ in planned]

    def listed(self) -> list[str]:
        with self.database.read() as connection:
            return [one.series_instance_uid for one in catalog.list_series(connection)]

    def on_disk(self, instances: Sequence[Instance]) -> int:
        """How many of the instances have a file."""
        return sum(any(place.exists() for place in self.files.places_of(one.sop_instance_uid)) for one in instances)
