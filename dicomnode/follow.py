"""What one rule derived becomes the source of the rules that follow it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from dicomnode.config import Config
from dicomnode.rules import match_rules, shared_attributes
from dicomnode.wanted_job import new_job, verdict_details
from storage import audit, jobs
from storage.catalog import Instance, Origin, Series, SeriesState
from storage.database import Connection
from storage.jobs import Job, NewJob


@dataclass(frozen=True, slots=True)
class Following:
    """Jobs that are to be done on a derived series, and every following rule's verdict for the audit."""

    jobs: tuple[NewJob, ...]
    verdicts: tuple[dict[str, Any], ...]


def following_jobs(job: Job, images: Sequence[Instance], *, config: Config, now: datetime) -> Following:
    """The jobs that the rules after one of the job's rules ask for; `when` is asked of the derived images.

    They take the job's generation, so that a newer one of the source supersedes the whole chain.
    """
    rules = [rule for rule in config.rules if rule.after and rule.after in job.rules]
    if not rules:
        return Following((), ())
    verdicts = match_rules(rules, shared_attributes([image.header for image in images]), peer="")
    series = _as_series(job, images)
    source_uids = tuple(sorted(image.sop_instance_uid for image in images))
    wanted = tuple(
        _as_urgent(new_job(rule, series, source_uids, config=config, now=now), job)
        for rule, verdict in zip(rules, verdicts, strict=True)
        if verdict.met and rule.run
    )
    return Following(wanted, tuple(verdict_details(verdict) for verdict in verdicts))


def add_following(connection: Connection, job: Job, images: Sequence[Instance], follows: Following) -> None:
    """What follows the job on these derived images waits, and every rule's verdict is in the audit."""
    if follows.verdicts:
        audit.append(
            connection,
            "derived series routed",
            series_instance_uid=images[0].series_instance_uid,
            job_id=job.id,
            details={"rules": list(follows.verdicts)},
        )
    for new in follows.jobs:
        jobs.add_job(connection, new)


def _as_urgent(new: NewJob, job: Job) -> NewJob:
    """The new job, not less urgent than the one it follows."""
    return replace(new, priority=min(new.priority, job.priority))


def _as_series(job: Job, images: Sequence[Instance]) -> Series:
    """The derived series as it will be listed, in the generation of its source."""
    return Series(
        series_instance_uid=images[0].series_instance_uid,
        study_instance_uid=job.study_instance_uid,
        peer="",
        state=SeriesState.CLOSED,
        origin=Origin.DERIVED,
        generation=job.generation,
        instance_count=len(images),
        first_received_at=images[0].received_at,
        last_received_at=images[-1].received_at,
        closed_at=images[-1].received_at,
        closed_because="derived by this node",
    )
