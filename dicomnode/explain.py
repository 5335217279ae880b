"""Everything that is known of one series: what it holds, why it is whole, what the rules say and said, its jobs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pydicom.uid import UID

from dicomnode.config import Config
from dicomnode.errors import NodeFault
from dicomnode.rules import decides
from dicomnode.ways import Decision, decide, decide_derived, keywords_of
from dicomnode.whole import Tally, expected_count, slice_gap
from storage import audit, catalog, deliveries, jobs, ledger
from storage.audit import Entry
from storage.catalog import Instance, Origin, Series, SeriesState
from storage.database import Connection
from storage.deliveries import Delivery
from storage.jobs import Job
from storage.ledger import LedgerState
from storage.received import Held, derived_headers, jobs_that_made

DECIDED = frozenset({"series closed", "derived series routed"})
"""The audit's events that hold the verdicts of rules."""


@dataclass(frozen=True, slots=True)
class Content:
    """Instances of a series that are alike; decide: whether rules look at them."""

    modality: str
    sop_class: str
    transfer_syntax: str
    decide: bool
    count: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Then:
    """What was decided once, as the audit has it. differs: rules of which the config now says otherwise."""

    at: datetime
    because: str
    generation: int | None
    rules: tuple[Mapping[str, Any], ...]
    not_routed: str
    differs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Work:
    """A job of the series: its deliveries, how many instances stand how with each, and the series that it made."""

    job: Job
    sent: tuple[tuple[Delivery, Mapping[LedgerState, int]], ...]
    made: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Explanation:
    """The series; None: it is no longer here. whole: why it is, or what it waits for."""

    series_instance_uid: str
    series: Series | None
    contents: tuple[Content, ...]
    whole: str
    made_by: tuple[Job, ...]
    now: Decision
    then: tuple[Then, ...]
    work: tuple[Work, ...]
    events: Mapping[str, int]


def explain_series(connection: Connection, config: Config, uid: str, *, now: datetime) -> Explanation:
    """All of one moment. Raises NodeFault for a series of which nothing is known."""
    entries = audit.entries(connection, series_instance_uid=uid)
    try:
        series = catalog.get_series(connection, uid)
    except LookupError:
        series = None
        if not entries:
            raise NodeFault(f"nothing is known of series {uid}: it was neither received nor derived here") from None
    instances = catalog.series_instances(connection, uid)
    made_by = jobs_that_made(connection, uid)
    decision = _decision(connection, config, series, instances, made_by, now)
    return Explanation(
        series_instance_uid=uid,
        series=series,
        contents=_contents(instances),
        whole="" if series is None else _whole(series, instances, config, now),
        made_by=tuple(made_by),
        now=decision,
        then=tuple(_then(entry, decision) for entry in entries if _is_decision_on(entry, uid)),
        work=tuple(_work(connection, job) for job in jobs.list_jobs(connection, series_instance_uid=uid)),
        events=Counter(entry.event for entry in entries),
    )


def _decision(
    connection: Connection,
    config: Config,
    series: Series | None,
    instances: Sequence[Instance],
    made_by: Sequence[Job],
    now: datetime,
) -> Decision:
    """What the config's rules say of the series now."""
    if series is None or not instances:
        return Decision(not_routed="none of its instances is here any more: rules cannot be asked")
    held = Held(series, {one.sop_instance_uid: one.header for one in instances})

    def derived(key: str) -> list[Held]:
        return derived_headers(connection, key)

    if series.origin is Origin.RECEIVED:
        return decide(config, held, derived=derived, keywords=keywords_of(config.rules), now=now)
    if not decides(instances[0].header):
        return Decision(not_routed="it stands beside derived images: no rule is asked")
    asked_for = [rule for job in made_by for rule in job.rules]
    decision = decide_derived(config, held, made_by=asked_for, derived=derived, now=now)
    if not decision.asked:
        decision.not_routed = f"derived for {' and '.join(map(repr, asked_for))}, and no rule comes after that"
    return decision


def _is_decision_on(entry: Entry, uid: str) -> bool:
    return entry.event in DECIDED and entry.series_instance_uid == uid


def _then(entry: Entry, decision: Decision) -> Then:
    rules = tuple(entry.details.get("rules", ()))
    met_now = {one.rule.name: one.verdict.met for one in decision.asked if not one.before}
    return Then(
        at=entry.at,
        because=str(entry.details.get("because", "")),
        generation=entry.details.get("generation"),
        rules=rules,
        not_routed=str(entry.details.get("not routed", "")),
        differs=() if decision.not_routed else tuple(_differing(rules, met_now)),
    )


def _differing(rules: Sequence[Mapping[str, Any]], met_now: Mapping[str, bool]) -> list[str]:
    """Rules that were met and are not, or the other way round; one that is gone counts as not met."""
    met_then = {str(one["rule"]): bool(one["met"]) for one in rules}
    return [name for name in {**met_then, **met_now} if met_then.get(name, False) != met_now.get(name, False)]


def _contents(instances: Sequence[Instance]) -> tuple[Content, ...]:
    counts: Counter[tuple[str, str, str, bool]] = Counter()
    sizes: Counter[tuple[str, str, str, bool]] = Counter()
    for one in instances:
        modality = str(one.header.get("Modality", ""))
        kind = (modality, one.sop_class_uid, one.transfer_syntax_uid, decides(one.header))
        counts[kind] += 1
        sizes[kind] += one.size_bytes
    return tuple(
        Content(kind[0], UID(kind[1]).name, UID(kind[2]).name, kind[3], count, sizes[kind])
        for kind, count in counts.most_common()
    )


def _whole(series: Series, instances: Sequence[Instance], config: Config, now: datetime) -> str:
    if series.state is SeriesState.CLOSED:
        return series.closed_because
    tally = Tally(instances)
    evidence, gap = expected_count(tally), slice_gap(tally)
    peer = config.peers.get(series.peer)
    quiet_s = config.node.quiet_seconds if peer is None or peer.quiet_seconds is None else peer.quiet_seconds
    age_s = (now - series.last_received_at).total_seconds()
    waits = f"{evidence[1]} announces {evidence[0]}" if evidence else "its headers announce no count"
    words = f"not whole yet: {tally.deciding.count} images are here, {waits}"
    return (
        f"{words}{f'; {gap}' if gap else ''}; the last came {age_s:.0f} s ago, after {quiet_s:g} s it counts as whole"
    )


def _work(connection: Connection, job: Job) -> Work:
    sent = tuple(
        (one, Counter(ledger.ledger_states(connection, job.id, one.destination).values()))
        for one in deliveries.job_deliveries(connection, job.id)
    )
    return Work(job, sent, tuple(jobs.made_series(connection, job.id)))
