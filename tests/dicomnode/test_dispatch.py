"""What waits is on its queue once and in its order, and a broken lane gets its probe and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from dicomnode.bell import DISPATCH_ROOM, Bell
from dicomnode.config import Config, load_config
from dicomnode.dispatch import Dispatcher
from dicomnode.engine import Engine
from dicomnode.processes import Processes
from storage import audit, jobs, lanes, promises
from storage.database import Database, open_engine
from storage.references import Reference
from tests.storage.builders_storage import new_job, planned_job

NOW = datetime.now(UTC)


class Desk:
    """A dispatcher with its database, engine and config."""

    def __init__(self, folder: Path, database: Database) -> None:
        self.folder, self.database = folder, database
        self.engine = Engine(open_engine(f"sqlite:///{folder}/engine.sqlite"))
        self.config = self.load()
        self.dispatch = Dispatcher(
            lambda: self.config, database, self.engine, Processes([]), lambda event, peer, details: None
        )

    def load(self, *, port: int = 104, associations: int = 1) -> Config:
        """The config with a PACS at that port."""
        (self.folder / "config").mkdir(exist_ok=True)
        (self.folder / "config" / "node.toml").write_text(
            f'[node]\ndata_folder = "../var"\n[peers.pacs]\nae_title = "PACS"\nhost = "127.0.0.1"\nport = {port}\n'
            f"associations = {associations}\n"
        )
        (self.folder / "config" / "rules.toml").write_text("")
        return load_config(self.folder / "config")

    def queued(self) -> list[Any]:
        """What waits on the queues, in the order in which it is taken."""
        waiting = self.engine._client.list_queued_workflows()
        return sorted(waiting, key=lambda run: (run.queue_name, run.priority, run.created_at))

    def ids(self, word: str = "") -> list[str]:
        """The ids of what waits, those with that word."""
        return [run.workflow_id for run in self.queued() if word in run.workflow_id]

    def concurrency(self) -> int | None:
        """How many of the PACS's tasks an executor runs at once."""
        queue = self.engine._client.retrieve_queue("send.pacs")
        assert queue is not None
        return queue.worker_concurrency


@pytest.fixture
def desk(tmp_path: Path, database: Database) -> Iterator[Desk]:
    made = Desk(tmp_path, database)
    yield made
    made.engine.close()


def test_stat_goes_first_and_after_ten_minutes_routine_goes_before_a_stat_that_comes_then(desk: Desk) -> None:
    made = {}
    with desk.database.begin() as connection:
        for key, priority, age_s in (("low", 2, 60), ("routine", 1, 60), ("patient", 1, 660), ("stat", 0, 0)):
            at = NOW - timedelta(seconds=age_s)
            made[key], _ = jobs.add_job(connection, new_job(key=key, priority=priority, created_at=at))
    desk.dispatch()
    order = [int(run.workflow_id.split(".")[0]) for run in desk.queued()]
    assert order == [made[key].id for key in ("patient", "stat", "routine", "low")]


def test_what_waits_is_enqueued_once_however_often_one_looks(desk: Desk) -> None:
    with desk.database.begin() as connection:
        jobs.add_job(connection, new_job(created_at=NOW))
        planned_job(connection, key="b" * 64, created_at=NOW)
    for _ in range(3):
        desk.dispatch()
    assert len(desk.queued()) == 2


def test_a_broken_lane_gets_its_probe_when_it_is_due_and_nothing_else(desk: Desk) -> None:
    with desk.database.begin() as connection:
        planned_job(connection, created_at=NOW)
        lanes.break_lane(connection, "pacs", reason="no answer", next_probe_at=NOW + timedelta(hours=1), now=NOW)
    desk.dispatch()
    assert desk.ids() == []
    with desk.database.begin() as connection:
        lanes.probe_at_once(connection, ["pacs"], NOW)
    for _ in range(2):
        desk.dispatch()
    assert desk.ids() == ["send.pacs.probe.1.1"]
    assert desk.queued()[0].priority == 1, "before what may still be on the queue"


def test_what_was_dequeued_while_its_lane_was_broken_is_enqueued_again_when_it_is_mended(desk: Desk) -> None:
    with desk.database.begin() as connection:
        job = planned_job(connection, created_at=NOW)
    desk.dispatch()
    first = desk.ids()
    with desk.database.begin() as connection:
        lanes.break_lane(connection, "pacs", reason="no answer", next_probe_at=NOW + timedelta(hours=1), now=NOW)
    desk.dispatch()
    with desk.database.begin() as connection:
        lanes.mend_lane(connection, "pacs", because="it answered", now=NOW)
    desk.dispatch()
    again = desk.ids()
    assert len(first) == 1 and len(again) == 2 and all(f".{job.id}." in one for one in again)


def test_a_report_to_a_peer_has_its_turn_in_the_lane_once_for_each_try(desk: Desk) -> None:
    wanted = [Reference("1.2.840.10008.5.1.4.1.1.2", "1.2.3")]
    with desk.database.begin() as connection:
        promises.open_promise(connection, "pacs", "2.25.1", wanted, report_at=NOW, now=NOW)
        promises.open_promise(connection, "pacs", "2.25.2", wanted, report_at=NOW + timedelta(hours=1), now=NOW)
    for _ in range(2):
        desk.dispatch()
    assert desk.ids() == ["send.pacs.promise.1.0"]
    with desk.database.begin() as connection:
        first = promises.get_promise(connection, 1)
        promises.postpone_promise(connection, first, reason="away", next_try_at=NOW)
    desk.dispatch()
    assert desk.ids() == ["send.pacs.promise.1.0", "send.pacs.promise.1.1"]


def test_a_peer_whose_address_was_corrected_is_probed_at_once(desk: Desk) -> None:
    with desk.database.begin() as connection:
        lanes.break_lane(connection, "pacs", reason="no answer", next_probe_at=NOW + timedelta(hours=1), now=NOW)
    desk.dispatch.open_lanes()
    desk.dispatch()
    assert desk.ids("probe") == []
    desk.config = desk.load(port=11112)
    desk.dispatch.open_lanes()
    desk.dispatch()
    assert desk.ids("probe") == ["send.pacs.probe.1.1"]


def test_a_lane_takes_as_many_deliveries_at_a_time_as_the_peer_takes_associations_also_after_a_reload(
    desk: Desk,
) -> None:
    assert desk.concurrency() == 1
    desk.config = desk.load(associations=4)
    desk.dispatch.open_lanes()
    assert desk.concurrency() == 4


def test_a_ring_of_another_process_wakes_it(desk: Desk) -> None:
    desk.dispatch.listen()
    Bell(desk.config.data_folder).ring(DISPATCH_ROOM)
    assert desk.dispatch.wake.wait(10)


def test_a_request_whose_association_is_gone_ends_and_does_not_wait_for_ever(desk: Desk) -> None:
    with (desk.folder / "config" / "node.toml").open("a") as file:
        file.write('[peers.scanner]\nae_title = "SCANNER"\nmay = ["store"]\n')
    desk.config = load_config(desk.folder / "config")
    desk.dispatch.open_lanes()
    wanted = [Reference("1.2.840.10008.5.1.4.1.1.2", "1.2.3")]
    with desk.database.begin() as connection:
        for number, at in ((1, NOW), (2, NOW - timedelta(hours=2))):
            promises.open_promise(connection, "scanner", f"2.25.{number}", wanted, report_at=at, now=at)
    desk.dispatch()
    with desk.database.read() as connection:
        states = {one.transaction_uid: one.state for one in promises.list_promises(connection)}
        last = audit.entries(connection)[-1]
    assert states == {"2.25.1": promises.PromiseState.WAITING, "2.25.2": promises.PromiseState.ABANDONED}
    assert last.event == "commitment not told" and desk.ids() == []
