"""The root of the processes beside the port: one that derives on a device, one that sends."""

from __future__ import annotations

import logging
import os
import signal
import threading
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from dicomnode.bell import DISPATCH_ROOM, Bell
from dicomnode.config import Config, load_config
from dicomnode.dispatch import DERIVE_QUEUE, SEND_QUEUE
from dicomnode.engine import Executor, Task
from dicomnode.errors import ConfigFault
from dicomnode.processes import end_with_parent
from dicomnode.stores import Stores
from dicomnode.takeover import Lock
from storage import deliveries, promises
from storage.database import open_engine
from storage.disk_room import free_bytes
from storage.locks import take_lock

LOG = logging.getLogger(__name__)
DRAIN_S = 15


def run_worker(config: Config, *, relative_to: Path, executor_id: str, device: str) -> None:
    """Derives what waits, one job at a time, until it is asked to stop."""
    from dicomnode.follow import following_jobs
    from dicomnode.work import Workshop, do_job, interrupt_jobs

    if device.startswith("cuda"):
        LOG.warning("%s: the pipelines of this version compute on the CPU; %s is not used yet", executor_id, device)
    stores = Stores.open(config)
    current = _Current(config, relative_to)
    workshop = Workshop(
        database=stores.database,
        files=stores.files,
        passports=stores.passports,
        worker=executor_id,
        deployment_uuid=stores.database.deployment_uuid(),
        node=config.node,
        limit_s=lambda pipeline: current.config.limit_s(pipeline),
        retry_s=lambda attempts: _backoff_s(current.config, attempts),
        following=lambda job, images: following_jobs(job, images, config=current.config, now=datetime.now(UTC)),
    )
    _run_executor(stores, config, executor_id, {DERIVE_QUEUE: lambda job_id, _: do_job(job_id, workshop)})
    for job in interrupt_jobs(workshop):
        LOG.warning("work: job %s was interrupted and goes on at the next start", job.id)
    _end_now()


def run_sender(config: Config, *, executor_id: str) -> None:
    """Sends what is derived, one lane per destination, until it is asked to stop."""
    from dicomnode.lines import Lines
    from dicomnode.send import Courier, serve

    stores = Stores.open(config)
    courier = Courier(
        database=stores.database,
        files=stores.files,
        ae_title=config.node.ae_title,
        retry_first_s=config.node.retry_first_s,
        retry_longest_s=config.node.retry_longest_s,
        give_up_after_days=config.node.give_up_after_days,
        lines=Lines(identity=config.tls),
        has_room=lambda: free_bytes(config.data_folder) >= config.retention.low_watermark_gb * 1e9,
    )

    def task(job_id: int, destination: str) -> str:
        return serve(job_id, destination, config.peers.get(destination), courier)

    with stores.database.read() as connection:
        destinations = {name for name, peer in config.peers.items() if peer.reachable}
        destinations |= deliveries.open_destinations(connection)  # also those that left the config
        destinations |= promises.open_peers(connection)
    # A changed config can bring new lanes: on SIGHUP this process ends, and the node starts it again.
    _run_executor(
        stores,
        config,
        executor_id,
        {f"{SEND_QUEUE}.{name}": task for name in sorted(destinations)},
        stop_on=(signal.SIGTERM, signal.SIGINT, signal.SIGHUP),
    )
    _end_now()


def _end_now() -> None:
    """The process ends, with whatever thread did not end in time; its locks go with it."""
    logging.shutdown()
    os._exit(0)


class _Current:
    """The config in force; SIGHUP reads it again, and a file with a mistake keeps the old one."""

    def __init__(self, config: Config, relative_to: Path) -> None:
        self.config, self._relative_to = config, relative_to
        signal.signal(signal.SIGHUP, lambda number, frame: self._reload())

    def _reload(self) -> None:
        try:
            self.config = load_config(self.config.folder, relative_to=self._relative_to)
        except ConfigFault as fault:
            LOG.error("config not reloaded, the old one stays: %s", fault)


def _backoff_s(config: Config, attempts: int) -> float:
    return min(config.node.retry_first_s * 2.0 ** max(0, attempts - 1), config.node.retry_longest_s)


def _run_executor(
    stores: Stores,
    config: Config,
    executor_id: str,
    tasks: dict[str, Task],
    *,
    stop_on: tuple[signal.Signals, ...] = (signal.SIGTERM, signal.SIGINT),
) -> None:
    """Runs until one of the signals or the end of the node."""
    end_with_parent()
    stop = threading.Event()
    for number in stop_on:
        signal.signal(number, lambda *_: stop.set())

    def take(name: str) -> Lock | None:
        return take_lock(stores.database, stores.folder / "locks", name)

    bell = Bell(config.data_folder)
    executor = Executor(
        open_engine(config.engine_database_url),
        executor_id=executor_id,
        tasks=tasks,
        take_lock=take,
        ended=lambda: bell.ring(DISPATCH_ROOM),
    )
    executor.start()
    for queue in tasks:
        bell.listen(queue, executor_id, partial(executor.ring, queue))
    LOG.info("%s listens to %s", executor_id, ", ".join(tasks))
    stop.wait()
    executor.stop(drain_s=DRAIN_S)
