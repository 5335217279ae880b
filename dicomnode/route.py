"""A whole series becomes one waiting job per rule it meets, in one transaction."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from dicomnode.config import Config
from dicomnode.engine import priorities
from dicomnode.handling import Handling
from dicomnode.rules import Rule, SharedAttributes, Verdict, decides, match_rules, shared_attributes
from dicomnode.uids import MODEL_NAME
from inference.pipeline import Card, build_pipeline
from storage import audit, catalog, jobs
from storage.catalog import Instance, Series
from storage.database import Database
from storage.jobs import Job, NewJob


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
        return [jobs.add_job(connection, new)[0] for new in wanted]


def new_job(
    rule: Rule, series: Series, source_sop_instance_uids: tuple[str, ...], *, config: Config, now: datetime
) -> NewJob:
    """The job that a rule asks for; its key is made of what decides its result, so the same work is the same job."""
    configured = config.pipelines.get(rule.run)
    settings = configured.settings if configured is not None else {}
    card = build_pipeline(rule.run, settings).card
    sender = config.peers.get(series.peer)
    handling = Handling(
        also=configured.also if configured is not None else (),
        split_mixed=rule.mixed == "split",
        split_uneven=rule.uneven == "split",
        follows=bool(rule.after),
        character_set=sender.declare_character_set if sender is not None else "",
    ).as_json()
    return NewJob(
        key=job_key(card, settings, source_sop_instance_uids, handling=handling),
        series_instance_uid=series.series_instance_uid,
        study_instance_uid=series.study_instance_uid,
        generation=series.generation,
        rule=rule.name,
        pipeline=card.name,
        pipeline_version=card.version,
        settings=dict(settings),
        source_sop_instance_uids=source_sop_instance_uids,
        priority=priorities().index(rule.priority),
        destinations=tuple(rule.send_to),
        created_at=now,
        handling=handling,
    )


def job_key(
    card: Card,
    settings: Mapping[str, Any],
    source_sop_instance_uids: Sequence[str],
    *,
    handling: Mapping[str, Any] | None = None,
) -> str:
    """SHA-256 (hex) over pipeline, version, weights, settings, the sorted source instances and unusual handling."""
    parts = [card.name, card.version, card.weights_sha256, dict(settings), sorted(source_sop_instance_uids)]
    if handling:
        parts.append(dict(handling))
    return hashlib.sha256(json.dumps(parts, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def made_by_us(shared: SharedAttributes) -> bool:
    """Whether a node of this kind made the series: what we derived is never routed again (DERIVED_SERIES I13)."""
    return shared.values.get("ManufacturerModelName") == MODEL_NAME


def verdict_details(verdict: Verdict) -> dict[str, Any]:
    """A verdict as the audit keeps it: no values of attributes that name the patient are in its words."""
    return {"rule": verdict.rule, "met": verdict.met, "reason": verdict.reason}
