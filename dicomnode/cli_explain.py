"""The command `dicomnode explain`: one series from its arrival to its deliveries, and why."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from dicomnode.answers import job_as_json, plain, terms_in_lines, verdict_as_json
from dicomnode.cli_options import CONFIG, ConfigOption, JsonOption, console, opened_database, print_json
from dicomnode.config import load_config

if TYPE_CHECKING:
    from dicomnode.explain import Explanation, Work
    from dicomnode.ways import Decision


def explain(
    series: Annotated[str, typer.Argument(help="Series Instance UID of a received or derived series.")],
    config: ConfigOption = CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Say of one series what it holds, why it is whole, what each rule says of it now and said then, and its jobs.

    `now` are the rules of the config folder, term by term, on the headers that are here; `then` is what the audit
    keeps of the moment when it was routed.

    [dim]dicomnode explain 1.2.840.113619.2.55
    dicomnode explain 1.2.840.113619.2.55 --json | jq .rules_now[/dim]
    """
    from dicomnode.explain import explain_series

    settings = load_config(config, relative_to=config)
    with opened_database(config) as database, database.read() as connection:
        found = explain_series(connection, settings, series, now=datetime.now(UTC))
    if as_json:
        print_json(explanation_as_json(found))
        return
    for line in _head(found):
        console.print(plain(line), soft_wrap=True)
    for table in (_contents(found), _now(found.now), _then(found), _jobs(found)):
        if table.row_count:
            console.print(table)
    events = ", ".join(f"{event} ({count})" for event, count in found.events.items())
    console.print(plain(f"in the audit: {events or 'nothing'}; `dicomnode audit {series}` shows all"), soft_wrap=True)


def _head(found: Explanation) -> list[str]:
    one = found.series
    if one is None:
        return [f"series {found.series_instance_uid} is no longer here; what the audit knows of it:"]
    origin = f"received from {one.peer or 'nobody we know'}" if one.origin == "received" else "derived here"
    lines = [
        f"series {one.series_instance_uid} of study {one.study_instance_uid}: {origin}, {one.instance_count} instances",
        f"came from {_moment(one.first_received_at)} to {_moment(one.last_received_at)}, generation {one.generation}",
        f"{one.state}: {found.whole}",
    ]
    for job in found.made_by:
        rules = " and ".join(map(repr, job.rules))
        lines.append(f"made by job {job.id} ({job.pipeline} for {rules}) of series {job.series_instance_uid}")
    return lines


def _contents(found: Explanation) -> Table:
    table = Table("it holds", "modality", "SOP class", "transfer syntax", "MB", "asked by rules")
    for one in found.contents:
        size = f"{one.size_bytes / 1e6:.1f}"
        asked = "yes" if one.decide else "no: no image, or a localizer"
        table.add_row(str(one.count), one.modality, one.sop_class, one.transfer_syntax, size, asked)
    return table


def _now(decision: Decision) -> Table:
    table = Table("rule now", "met", "why", "term by term", show_lines=True)
    if decision.not_routed:
        table.add_row("", "", plain(decision.not_routed), "")
    for asked in decision.asked:
        name = asked.rule.name + (
            f"\n(of what {', then '.join(map(str, asked.before))} derived)" if asked.before else ""
        )
        terms = "\n".join(terms_in_lines(asked.verdict))
        table.add_row(plain(name), _met(asked.verdict.met), plain(asked.verdict.reason), plain(terms))
    for path, rules in decision.unknown.items():
        for rule in rules:
            why = f"{', then '.join(map(str, path))} has derived nothing of it that is here: it cannot be asked"
            table.add_row(plain(rule.name), "?", plain(why), "")
    return table


def _then(found: Explanation) -> Table:
    table = Table("rule then", "when", "met", "why", show_lines=True)
    for one in found.then:
        when = _moment(one.at) + (f"\ngeneration {one.generation}" if one.generation is not None else "")
        if one.not_routed:
            table.add_row("", when, "", plain(one.not_routed))
        for rule in one.rules:
            otherwise = "\n(now it is otherwise)" if rule["rule"] in one.differs else ""
            table.add_row(plain(str(rule["rule"])), when, _met(rule["met"]) + otherwise, plain(str(rule["reason"])))
        known = {rule["rule"] for rule in one.rules}
        for name in (name for name in one.differs if name not in known):
            table.add_row(plain(name), when, "no\n(now it is otherwise)", "there was no such rule")
    return table


def _jobs(found: Explanation) -> Table:
    table = Table("job", "state", "pipeline", "for", "made", "delivered", "reason", show_lines=True)
    for work in found.work:
        job = work.job
        code = f"{job.reason_code}: " if job.reason_code else ""
        reasons = [f"{code}{job.reason}"] if job.reason or job.reason_code else []
        reasons += [f"{one.destination}: {one.reason}" for one, _ in work.sent if one.reason]
        table.add_row(
            str(job.id), f"{job.state}\ngeneration {job.generation}", f"{job.pipeline} {job.pipeline_version}",
            plain(", ".join(job.rules)), "\n".join(work.made), plain("\n".join(_sent(work))), plain("\n".join(reasons)),
        )  # fmt: skip
    return table


def _sent(work: Work) -> list[str]:
    """Each destination with how many instances stand how; those that are still to be planned by their names."""
    if not work.sent:
        return [f"{name}: not yet" for name in work.job.destinations]
    return [
        f"{one.destination}: {one.state} ({', '.join(f'{count} {state}' for state, count in counts.items())})"
        for one, counts in work.sent
    ]


def _met(met: bool) -> str:
    return "yes" if met else "no"


def _moment(at: datetime) -> str:
    return at.astimezone().strftime("%Y-%m-%d %H:%M:%S")


def explanation_as_json(found: Explanation) -> dict[str, Any]:
    """All of it, for a script."""
    one = found.series
    return {
        "series_instance_uid": found.series_instance_uid,
        "here": one is not None,
        "study_instance_uid": one.study_instance_uid if one else None,
        "peer": (one.peer or None) if one else None,
        "origin": one.origin if one else None,
        "state": one.state if one else None,
        "generation": one.generation if one else None,
        "first_received_at": one.first_received_at.isoformat() if one else None,
        "last_received_at": one.last_received_at.isoformat() if one else None,
        "whole_because": found.whole or None,
        "made_by": [{"job": job.id, "series_instance_uid": job.series_instance_uid} for job in found.made_by],
        "holds": [
            {
                "instances": content.count,
                "modality": content.modality,
                "sop_class": content.sop_class,
                "transfer_syntax": content.transfer_syntax,
                "bytes": content.size_bytes,
                "asked_by_rules": content.decide,
            }
            for content in found.contents
        ],
        "not_routed": found.now.not_routed or None,
        "rules_now": [
            verdict_as_json(asked.verdict) | {"after": list(map(str, asked.before))} for asked in found.now.asked
        ],
        "cannot_be_asked": [rule.name for rules in found.now.unknown.values() for rule in rules],
        "rules_then": [
            {
                "at": then.at.isoformat(),
                "generation": then.generation,
                "because": then.because or None,
                "rules": list(then.rules),
                "not_routed": then.not_routed or None,
                "otherwise_now": list(then.differs),
            }
            for then in found.then
        ],
        "jobs": [
            job_as_json(work.job, [delivery for delivery, _ in work.sent])
            | {
                "rules": list(work.job.rules),
                "made_series": list(work.made),
                "ledger": {delivery.destination: dict(counts) for delivery, counts in work.sent},
            }
            for work in found.work
        ],
        "events": dict(found.events),
    }
