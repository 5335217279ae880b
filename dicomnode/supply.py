"""What waiting jobs need beside their sources is chosen from what is here, fetched from peers, or refused in time."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from dicomnode.bring import bring_series, retrieved
from dicomnode.config import Config
from dicomnode.errands import Errands
from dicomnode.errors import NoAssociation, PeerRejected, PeerUnreachable, SeriesUnusable
from dicomnode.fetching import Fetcher
from dicomnode.finding import Finder, FoundSeries
from dicomnode.need_settings import NeedTable
from dicomnode.peer import Peer
from dicomnode.question import Question
from dicomnode.rules import decides, shared_attributes
from dicomnode.service import Happening
from dicomnode.slots import Candidate, best_of, surely_same_patient, why_not
from storage import catalog, jobs, needs, sightings
from storage.catalog import Series, SeriesState
from storage.database import Connection, Database
from storage.errors import DatabaseAway, StaleState
from storage.jobs import Event, State
from storage.needs import OpenNeed

LOG = logging.getLogger(__name__)
MOST_STUDIES = 5
"""So many of the latest earlier studies are looked through."""
LONGEST_REASON = 300
FRAME = "FrameOfReferenceUID"
GRACE_S = 300.0
"""A fetch that is under way when the time limit ends may go on for so long."""
COMING_S = 5.0
"""So long no peer is asked for what is being received just now."""


class Supplier:
    """One call looks once: what is here is given to the job, what is not is asked for on threads of its own."""

    def __init__(
        self,
        config: Callable[[], Config],
        database: Database,
        fetcher: Callable[[], Fetcher],
        *,
        tell: Happening,
        filled: Callable[[], None] = lambda: None,
    ) -> None:
        """config: the one in force, asked each time; tell: the audit; filled: told that a job may be ready."""
        self._config, self._database, self._fetcher, self._filled = config, database, fetcher, filled
        self._tell = tell
        self._errands = Errands()
        """By the peers that are asked: one at a time, so that two jobs do not fetch the same series."""
        self._asked_for: dict[tuple[str, ...], tuple[int, str]] = {}
        self._looked_at: dict[tuple[int, str], tuple[int, datetime | None, int]] = {}

    def __call__(self) -> None:
        """Fills what can be filled, asks for what is missing, refuses what waits too long."""
        now = datetime.now(UTC)
        with self._database.read() as connection:
            wanted = needs.open_needs(connection)
            mark = needs.catalogue_mark(connection) if wanted else (0, None)
        open_ones = {(need.job_id, need.slot) for need in wanted}
        self._looked_at = {key: seen for key, seen in self._looked_at.items() if key in open_ones}
        # Whoever was never asked for, then whoever was asked for longest ago: a peer that is slow must not be asked
        # for the same few again and again.
        for need in sorted(wanted, key=lambda one: (one.next_try_at is not None, one.next_try_at or now)):
            key, table = (need.job_id, need.slot), self._table(need)
            seen = *mark, need.tries
            if self._looked_at.get(key) != seen or now >= need.give_up_at:
                if self._fill(need, table, now):
                    continue
                self._looked_at[key] = seen
            self._ask_or_refuse(need, table, now)

    def _table(self, need: OpenNeed) -> NeedTable:
        """The need as the config in force has it, where it still means the same series: so a peer can be corrected."""
        kept = NeedTable.model_validate(dict(need.definition))
        in_force = self._config().needs.get(need.slot)
        return in_force if in_force is not None and in_force.chosen_by == kept.chosen_by else kept

    def _fill(self, need: OpenNeed, table: NeedTable, now: datetime) -> bool:
        """Whether a series is here that fills the need."""
        with self._database.read() as connection:
            source = _candidate(connection, catalog.get_series(connection, need.series_instance_uid))
            found = _candidates(connection, table, source)
            fitting = [one for one in found if not why_not(table, source, one)]
            closed = [one.series for one in fitting if one.series.state is SeriesState.CLOSED]
            short = sightings.short_series(connection, closed)
            whole = [one for one in fitting if one.series in closed and one.series.series_instance_uid not in short]
            # What is being received may be the better one: which is read must not hang on which came first.
            if not whole or (len(closed) < len(fitting) and now < need.give_up_at):
                return False
            best = best_of(source, whole)
            instances = catalog.series_instances(connection, best.series.series_instance_uid)
        images = [one for one in instances if decides(one.header)] or instances
        why = f"the best of {len(whole)} that fit" if len(whole) > 1 else "the only one that fits"
        uids = sorted(one.sop_instance_uid for one in images)
        with self._database.begin() as connection:
            filled = needs.fill(connection, need, best.series, uids, why=why)
        if filled:
            LOG.info("supply: job %s reads series %s as %s", need.job_id, best.series.series_instance_uid, need.slot)
            self._filled()
        return filled

    def _ask_or_refuse(self, need: OpenNeed, table: NeedTable, now: datetime) -> None:
        is_late, key = now >= need.give_up_at, (need.job_id, need.slot)
        if not is_late and not table.from_peers:
            if not need.reason:
                self._note(need, f"a {_in_words(table)} has not come yet", tries=0, again=None)
            return
        latest = now + timedelta(seconds=table.every_s)  # a time beyond it is the mark of a clock that went wrong
        if not is_late and need.next_try_at is not None and now < need.next_try_at <= latest:
            return
        if any(asked == key for peers, asked in self._asked_for.items() if self._errands.is_out(peers)) and (
            now < need.give_up_at + timedelta(seconds=GRACE_S)
        ):
            return
        if self._on_its_way(need, table):
            if not is_late:
                coming, again = f"a {_in_words(table)} is being received", now + timedelta(seconds=COMING_S)
                self._note(need, coming, tries=need.tries, again=min(again, latest))
        elif is_late and (need.tries or not table.from_peers):
            self._refuse(need, table, now)
        elif self._errands.send(table.from_peers, partial(self._ask, need, table)):
            self._asked_for[table.from_peers] = key
        elif is_late and not need.reason:
            self._note(need, "its peers are busy with what other jobs need", tries=0, again=None)

    def _on_its_way(self, need: OpenNeed, table: NeedTable) -> bool:
        """Whether a series that would fill it is being received just now."""
        with self._database.read() as connection:
            source = _candidate(connection, catalog.get_series(connection, need.series_instance_uid))
            found = _candidates(connection, table, source)
        return any(one.series.state is SeriesState.OPEN and not why_not(table, source, one) for one in found)

    def _refuse(self, need: OpenNeed, table: NeedTable, now: datetime) -> None:
        missing = _missing(need, table)
        try:
            with self._database.begin() as connection:
                jobs.move_job(
                    connection,
                    need.job_id,
                    Event.REFUSE,
                    expected=State.WAITING,
                    reason_code=missing.reason_code,
                    reason=str(missing),
                    now=now,
                )
        except StaleState:
            return  # superseded just now
        LOG.warning("supply: job %s refused: %s", need.job_id, missing)

    def _ask(self, need: OpenNeed, table: NeedTable) -> None:
        """The peers are asked in their order until one gives what may fill the need; on a thread of its own."""
        told: list[str] = []
        try:
            with self._database.read() as connection:
                source = _candidate(connection, catalog.get_series(connection, need.series_instance_uid))
            for name in table.from_peers:
                peer = self._config().peers.get(name)
                if peer is None:
                    told.append(f"{name} is no longer in node.toml")
                    continue
                outcome, came = self._ask_peer(peer, table, source, need.job_id)
                told.append(f"{name}: {outcome}")
                if came:
                    break
        except DatabaseAway as fault:
            LOG.error("supply: %s", fault)
            return  # asked again when the database is back
        except Exception as fault:  # nothing that a peer does may end the asking
            LOG.exception("supply: job %s: its input cannot be asked for", need.job_id)
            told.append(f"internal fault {type(fault).__name__}; the log has the trace")
        again = datetime.now(UTC) + timedelta(seconds=table.every_s)
        self._note(need, "; ".join(told)[:LONGEST_REASON], tries=need.tries + 1, again=again)

    def _ask_peer(self, peer: Peer, table: NeedTable, source: Candidate, job_id: int) -> tuple[str, bool]:
        """What came of asking, in words, and whether anything came."""
        config, by = self._config(), f"job {job_id}"
        told: list[str] = []
        found = False
        try:
            with Finder(peer, ae_title=config.node.ae_title, identity=config.tls) as finder:
                for of_study in _found(finder, table, source):
                    for one in of_study:
                        found = True
                        try:
                            brought = bring_series(self._fetcher(), finder, one, self._database, how=table.how, by=by)
                        except NoAssociation:
                            raise
                        except (PeerUnreachable, PeerRejected) as fault:
                            told.append(str(fault))  # another one may be had
                            continue
                        if brought.fetched or brought.failed:
                            self._tell("series retrieved", peer.name, retrieved(one, brought, how=table.how, by=by))
                        if brought.fetched:
                            short = f" ({brought.shortfall})" * bool(brought.shortfall)
                            return f"sent {brought.fetched} instances{short}", True
                        if brought.shortfall:
                            told.append(brought.shortfall)
                    if told:
                        break  # what cannot be had of a study is no reason to read an older one
        except (PeerUnreachable, PeerRejected) as fault:
            told.append(str(fault))
        except ValueError as fault:
            return f"cannot be asked: {fault}", False
        nothing = "holds only what is here and does not fit" if found else f"holds no {_in_words(table)}"
        return "; ".join(dict.fromkeys(told)) or nothing, False

    def _note(self, need: OpenNeed, reason: str, *, tries: int, again: datetime | None) -> None:
        try:
            with self._database.begin() as connection:
                needs.note(connection, need, reason, tries=tries, next_try_at=again)
        except DatabaseAway as fault:
            LOG.error("supply: %s", fault)


def _candidate(connection: Connection, series: Series) -> Candidate:
    headers: Sequence[Mapping[str, Any]] = [
        one.header for one in catalog.series_instances(connection, series.series_instance_uid)
    ]
    return Candidate(series, shared_attributes(headers))


def _candidates(connection: Connection, table: NeedTable, source: Candidate) -> list[Candidate]:
    """The series that may be it, of the same study or of the same patient."""
    if table.of == "study":
        listed = catalog.list_series(connection, study_instance_uid=source.series.study_instance_uid)
    else:
        patient_id = str(source.shared.values.get("PatientID", ""))
        listed = needs.series_of_patient(connection, patient_id) if patient_id else []
    mine = source.series.series_instance_uid
    return [_candidate(connection, one) for one in listed if one.series_instance_uid != mine]


def _found(finder: Finder, table: NeedTable, source: Candidate) -> Iterator[list[FoundSeries]]:
    """What the peer holds that may be it: of the same study, or of the latest earlier ones, study by study.

    Of each study those in the source's frame of reference first, where the peer says that, then the longest.
    """
    asked = Question(modality=(table.modality,), series_description=table.description)
    study_uid, values = source.series.study_instance_uid, source.shared.values
    frame = values.get(FRAME)

    def of_study(study: Mapping[str, Any], uid: str) -> list[FoundSeries]:
        found = finder.series_of(study, asked.of_study(uid), FRAME)
        turns = [(one.values.get(FRAME, frame) != frame, -(one.instances or 0), one) for one in found]
        wanted = [turn for turn in turns if not (table.same_frame_of_reference and turn[0])]
        return [one for *_, one in sorted(wanted, key=lambda turn: turn[:2])]

    if table.of == "study":
        yield of_study({}, study_uid)
        return
    patient_id, day = str(values.get("PatientID", "")), str(values.get("StudyDate", ""))
    if not patient_id or any(letter in patient_id for letter in "*?"):
        raise ValueError("the source's Patient ID is empty or holds a wildcard")
    if not day:
        raise ValueError("the source has no StudyDate, so that nothing is known to be earlier")
    studies = finder.studies(Question(patient_id=patient_id, study_date=f"-{day}", modality=(table.modality,)))
    earlier = [one for one in studies if one["StudyInstanceUID"] != study_uid and surely_same_patient(one, values)]
    for study in list(reversed(earlier))[:MOST_STUDIES]:
        yield of_study(study, str(study["StudyInstanceUID"]))


def _in_words(table: NeedTable) -> str:
    where = "of the same study" if table.of == "study" else "of an earlier study of the patient"
    return f"{table.modality} series {where}"


def _missing(need: OpenNeed, table: NeedTable) -> SeriesUnusable:
    """The refusal of a job whose input did not come in time."""
    last = f" ({need.reason})" if need.reason else ""
    limit_s = float(need.definition["limit_s"])
    return SeriesUnusable(
        "input-missing",
        f"{need.slot}: no {_in_words(table)} that fits came within {limit_s:g} s{last}; send it, then requeue",
    )
