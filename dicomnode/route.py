"""A whole series becomes one waiting job per rule it meets, in one transaction."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from dicomnode.config import Config
from dicomnode.follow import add_following, following_jobs
from dicomnode.rules import SharedAttributes, decides, match_rules, shared_attributes
from dicomnode.uids import MODEL_NAME
from dicomnode.wanted_job import new_job, verdict_details
from storage import audit, catalog, jobs
from storage.catalog import Instance, Series
from storage.database import Connection, Database
from storage.jobs import Job


def route_series(
    database: Database,
    series: Series,
    instances: Sequence[Instance],
    *,
    config: Config,
    because: str,
    now: datetime,
) -> list[Job]:
    """The jobs of a series that is whole: series closed, every rule's verdict audited, jobs waiting; all or none.

    Raises StaleState when an instance came meanwhile; then the series is still open and nothing has changed.
    """
    images = [instance for instance in instances if decides(instance.header)] or list(instances)
    shared = shared_attributes([image.header for image in images])
    source_uids = tuple(sorted(image.sop_instance_uid for image in images))
    rules = [rule for rule in config.rules if not rule.after]
    verdicts = [] if made_by_us(shared) else match_rules(rules, shared, peer=series.peer)
    wanted = [
        new_job(rule, series, source_uids, config=config, now=now)
        for rule, verdict in zip(rules, verdicts, strict=False)
        if verdict.met and rule.run
    ]
    with database.begin() as connection:
        catalog.close_series(
            connection,
            series.series_instance_uid,
            generation=series.generation,
            instance_count=series.instance_count,
            because=because,
            now=now,
        )
        audit.append(
            connection,
            "series closed",
            series_instance_uid=series.series_instance_uid,
            peer=series.peer,
            details={
                "because": because,
                "instances": series.instance_count,
                "generation": series.generation,
                "rules": [verdict_details(verdict) for verdict in verdicts],
                **({"not routed": "made by this kind of node; never processed again"} if made_by_us(shared) else {}),
            },
        )
        jobs.supersede_jobs(
            connection,
            series.series_instance_uid,
            older_than_generation=series.generation,
            except_keys=[new.key for new in wanted],
            now=now,
        )
        made = [jobs.add_job(connection, new)[0] for new in wanted]
        for job in made:
            _add_followers(connection, job, config=config, now=now)
        return made


def _add_followers(connection: Connection, job: Job, *, config: Config, now: datetime) -> None:
    """Where the work was done already, what follows it is asked for now: a rule may have joined it since."""
    for series_instance_uid in jobs.made_series(connection, job.id):
        images = catalog.series_instances(connection, series_instance_uid)
        if decides(images[0].header):
            add_following(connection, job, images, following_jobs(job, images, config=config, now=now))


def made_by_us(shared: SharedAttributes) -> bool:
    """Whether a node of this kind made the series: what we derived is never routed again (DERIVED_SERIES I13)."""
    return shared.values.get("ManufacturerModelName") == MODEL_NAME
