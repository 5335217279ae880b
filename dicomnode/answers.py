"""What the commands answer: jobs and audit rows as JSON for a script and as lines of a table."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dicomnode.rules import Verdict
    from storage.audit import Entry
    from storage.deliveries import Delivery
    from storage.jobs import Job
    from storage.retention import Family


def job_as_json(job: Job, sent: Sequence[Delivery]) -> dict[str, Any]:
    """A job and its deliveries as `jobs --json` prints them."""
    return {
        "id": job.id,
        "state": job.state,
        "pipeline": job.pipeline,
        "rule": job.rule,
        "series_instance_uid": job.series_instance_uid,
        "derived_series_instance_uid": job.derived_series_instance_uid or None,
        "generation": job.generation,
        "superseded_by_generation": job.superseded_by_generation,
        "attempts": job.attempts,
        "worker": job.worker or None,
        "reason_code": job.reason_code or None,
        "reason": job.reason or None,
        "created_at": job.created_at.isoformat(),
        "deliveries": [
            {
                "destination": one.destination,
                "state": one.state,
                "attempts": one.attempts,
                "asked_to_commit": one.asks,
                "reason": one.reason or None,
            }
            for one in sent
        ],
    }


def entry_as_json(entry: Entry) -> dict[str, Any]:
    """A row of the audit as `audit --json` prints it."""
    return {
        "at": entry.at.isoformat(),
        "event": entry.event,
        "series_instance_uid": entry.series_instance_uid or None,
        "job": entry.job_id,
        "peer": entry.peer or None,
        "details": entry.details,
    }


def family_as_json(family: Family, because: str) -> dict[str, Any]:
    """A received series and what was derived from it as `retention --json` prints them."""
    return {
        "series_instance_uid": family.series_instance_uid,
        "derived_series_instance_uids": [member.series_instance_uid for member in family.members[1:]],
        "instances": family.instance_count,
        "bytes": family.size_bytes,
        "delivered": family.delivered,
        "done_at": family.done_at.isoformat(),
        "because": because,
    }


def verdict_as_json(verdict: Verdict) -> dict[str, Any]:
    """A rule's verdict, term by term, as `replay --json` and `explain --json` print it."""
    return {
        "rule": verdict.rule,
        "met": verdict.met,
        "held": verdict.held,
        "reason": verdict.reason,
        "terms": [{"term": one.text, "outcome": one.outcome, "detail": one.detail} for one in verdict.terms],
    }


def terms_in_lines(verdict: Verdict) -> list[str]:
    """What became of each term of a rule, a line each."""
    return [f"{one.text}: {one.outcome}{f' ({one.detail})' if one.detail else ''}" for one in verdict.terms]


def details_in_lines(details: Any) -> str:
    """A row's details, a line each; a rule's verdict in words."""
    lines = []
    for key, value in details.items():
        if key == "rules":
            lines += [f"{'met' if one['met'] else 'not met'}: {one['rule']} - {one['reason']}" for one in value]
        elif value not in ("", None, [], {}):
            lines.append(f"{key}: {json.dumps(value) if isinstance(value, list | dict) else value}")
    return "\n".join(lines)


def plain(text: str) -> str:
    """The text with nothing in it that rich would take for markup."""
    return text.replace("[", "\\[")
