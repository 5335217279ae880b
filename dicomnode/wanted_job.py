"""The job that a rule asks for, and its verdict as the audit keeps it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from dicomnode.config import Config
from dicomnode.handling import Handling
from dicomnode.rules import Rule, Verdict
from dicomnode.urgency import priorities
from inference.pipeline import Card, build_pipeline
from storage.catalog import Series
from storage.job_rows import Need
from storage.jobs import NewJob


def new_job(
    rule: Rule, series: Series, source_sop_instance_uids: tuple[str, ...], *, config: Config, now: datetime
) -> NewJob:
    """The job that a rule asks for; its key is made of what decides its result, so the same work is the same job."""
    configured = config.pipelines.get(rule.run)
    settings = configured.settings if configured is not None else {}
    card = build_pipeline(rule.run, settings).card
    sender = config.peers.get(series.peer)
    needed = [(slot, config.needs[slot]) for slot in rule.needs]
    handling = Handling(
        also=configured.also if configured is not None else (),
        split_mixed=rule.mixed == "split",
        split_uneven=rule.uneven == "split",
        follows=bool(rule.after),
        character_set=sender.declare_character_set if sender is not None else "",
        needs=tuple(f"{slot}={table.chosen_by}" for slot, table in needed),
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
        needs=tuple(Need(slot, table.as_kept, table.limit_s) for slot, table in needed),
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


def verdict_details(verdict: Verdict) -> dict[str, Any]:
    """A verdict as the audit keeps it: no values of attributes that name the patient are in its words."""
    return {"rule": verdict.rule, "met": verdict.met, "reason": verdict.reason}
