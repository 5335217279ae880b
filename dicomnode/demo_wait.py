"""The demonstration waits until its series are over; when they never are, it says all that the node knows of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from dicomnode.errors import NodeFault
from storage import audit, catalog, deliveries, jobs, ledger
from storage.catalog import SeriesState
from storage.database import Connection, Database
from storage.figures import last_seq
from storage.job_states import OVER, State
from storage.lanes import all_lanes

PATIENCE_S = 240.0
"""So long nothing at all may change: on a machine that others keep busy the whole may take much longer."""
LOOK_S = 0.3
LAST_ROWS, LAST_LINES = 20, 30


class DemoFailed(NodeFault):
    """The demonstration did not come to its end; the message says where it stopped."""


def wait_for_series(
    folder: Path,
    wanted: Mapping[str, int],
    *,
    log: Path,
    tell: Callable[[str], None],
    alive: Callable[[], bool] = lambda: True,
    patience_s: float = PATIENCE_S,
) -> None:
    """Returns when every series is over with all its images: Series Instance UID -> how many were sent.

    folder: the node's; alive: whether it runs. Raises DemoFailed, with what the folder and the log tell, when the node
    has ended or nothing has changed for patience_s.
    """
    database = Database.open(f"sqlite:///{folder / 'node.sqlite'}")
    seen, changed_at, patient = _Progress(), time.monotonic(), True
    try:
        while True:
            running = alive()  # before the look: what it did last is seen
            with database.read() as connection:
                now = _progress(connection, wanted)
                over = all(_is_over(connection, uid, count) for uid, count in wanted.items())
            tell(now.words or "the series are gathered")
            if over:
                return
            if now != seen:
                seen, changed_at = now, time.monotonic()
            elif time.monotonic() - changed_at >= patience_s:
                patient = False
            if not running or not patient:
                why = f"nothing has changed for {patience_s:g} s" if running else "the node has ended"
                with database.read() as connection:
                    known = list(_known(connection, wanted))
                raise DemoFailed("\n".join([f"the series are not over: {why}", *known, *_on_disk(folder), *_tail(log)]))
            time.sleep(LOOK_S)
    finally:
        database.close()


@dataclass(frozen=True, slots=True)
class _Progress:
    """What changes while anything goes on. words: the jobs."""

    images_here: int = 0
    instances_unsent: int = 0
    audit_rows: int = 0
    words: str = ""


def _is_over(connection: Connection, uid: str, count: int) -> bool:
    """Whether the job that read every image is over, and those that it superseded too.

    On a busy machine a series may close before its end and once more with all of it: the first job does not count.
    """
    found = jobs.list_jobs(connection, series_instance_uid=uid)
    if not found or any(job.state not in OVER for job in found):
        return False
    return len(jobs.job_sources(connection, found[0].id)) == count and found[0].state != State.SUPERSEDED


def _progress(connection: Connection, wanted: Mapping[str, int]) -> _Progress:
    here = unsent = 0
    words = []
    for uid in wanted:
        here += len(catalog.instance_uids(connection, uid))
        for job in reversed(jobs.list_jobs(connection, series_instance_uid=uid)):
            words.append(f"{job.pipeline} {job.state}")
            for delivery in deliveries.job_deliveries(connection, job.id):
                unsent += len(ledger.unsent(connection, job.id, delivery.destination))
    return _Progress(here, unsent, last_seq(connection), ", ".join(words))


def _known(connection: Connection, wanted: Mapping[str, int]) -> Iterator[str]:
    """What the node's database tells of the series, their jobs and deliveries, the lanes and the latest events."""
    for uid, count in wanted.items():
        try:
            series = catalog.get_series(connection, uid)
        except LookupError:
            yield f"series {uid}: the node knows nothing of it; {count} images were sent"
            continue
        why = f", because {series.closed_because}" if series.state is SeriesState.CLOSED else ""
        yield (
            f"series {uid}: {series.state}, generation {series.generation}, {series.instance_count} of {count} "
            f"images, the last at {series.last_received_at:%H:%M:%S.%f}{why}"
        )
        for job in reversed(jobs.list_jobs(connection, series_instance_uid=uid)):
            yield (
                f"  job {job.id} of generation {job.generation}, {job.pipeline}: {job.state}; attempts {job.attempts}, "
                f"crashes {job.crashes}, retries {job.retries}, worker {job.worker or 'none'}, "
                f"not before {job.not_before}, deadline {job.deadline}; {job.reason or 'no reason given'}"
            )
            for one in deliveries.job_deliveries(connection, job.id):
                left = len(ledger.unsent(connection, job.id, one.destination))
                yield (
                    f"    to {one.destination}: {one.state}, {left} instances unsent, {one.attempts} tries failed, "
                    f"next try at {one.next_try_at}; {one.reason or 'no reason given'}"
                )
    for lane in all_lanes(connection).values():
        yield (
            f"lane to {lane.destination}: broken since {lane.broken_since}, {lane.failures} failures, "
            f"next probe at {lane.next_probe_at}; {lane.reason}"
        )
    yield "the latest rows of the audit:"
    for row in audit.entries(connection, limit=LAST_ROWS):
        about = f" job {row.job_id}" if row.job_id is not None else ""
        yield f"  {row.seq} {row.at:%H:%M:%S.%f} {row.event}{about} {row.series_instance_uid} {row.peer}".rstrip()


def _on_disk(folder: Path) -> Iterator[str]:
    """What lies in the node's folder: files and their bytes, of a folder how many files it holds."""
    yield f"in {folder}:"
    for path in sorted(folder.iterdir()):
        with suppress(FileNotFoundError):  # the node may still run
            if path.is_dir():
                yield f"  {path.name}: {sum(one.is_file() for one in path.rglob('*'))} files"
            else:
                yield f"  {path.name}: {path.stat().st_size} bytes"


def _tail(log: Path) -> Iterator[str]:
    """How the node's log ends."""
    yield "the node's log ends with:"
    with suppress(FileNotFoundError):
        yield from (f"  {line}" for line in log.read_text(errors="replace").splitlines()[-LAST_LINES:])
