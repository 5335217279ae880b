"""`[[retrieve]]`: peers are asked from time to time for series that are new there, and nothing is fetched twice."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from functools import partial

from dicomnode.bring import bring_series, retrieved
from dicomnode.config import Config
from dicomnode.errands import Errands
from dicomnode.errors import NoAssociation, PeerRejected, PeerUnreachable
from dicomnode.fetching import Fetcher
from dicomnode.finding import Finder, FoundSeries
from dicomnode.need_settings import RetrieveTable
from dicomnode.question import Question
from dicomnode.service import Happening
from storage import catalog, sightings
from storage.catalog import Origin
from storage.database import Database
from storage.errors import DatabaseAway
from storage.sightings import Sight

LOG = logging.getLogger(__name__)
SETTLE_S = 60.0
"""A series whose count is new is looked at again after so long at the latest: it may still grow at the peer."""
AGAIN_S = 300.0
"""A peer that did not answer is asked again after so long at the latest."""
MOST_DAYS_BACK = 31
"""After an outage the studies of so many days without a look are asked for, beside those of the table's own days."""


class Poller:
    """One call asks whoever it is time to ask, each on a thread of its own."""

    def __init__(
        self, config: Callable[[], Config], database: Database, fetcher: Callable[[], Fetcher], *, tell: Happening
    ) -> None:
        """config: the one in force, asked each time; tell: of what the audit must know."""
        self._config, self._database, self._fetcher, self._tell = config, database, fetcher, tell
        self._errands = Errands()
        self._tried_at: dict[str, float] = {}
        """Begin of the last look of this process, by the clock that nobody sets."""
        self._unsettled: dict[str, bool] = {}
        self._failing: dict[str, str] = {}

    def __call__(self) -> None:
        """Every `[[retrieve]]` whose time has come is begun."""
        for table in self._config().retrieve:
            if self._errands.is_out(table.name) or not self._is_time(table):
                continue
            if self._errands.send(table.name, partial(self._look, table)):
                self._tried_at[table.name] = time.monotonic()

    def _is_time(self, table: RetrieveTable) -> bool:
        every_s = table.every_minutes * 60
        if self._unsettled.get(table.name):
            every_s = min(every_s, SETTLE_S)
        if table.name in self._failing:
            every_s = min(every_s, AGAIN_S)
        tried_at = self._tried_at.get(table.name)
        if tried_at is not None:
            return time.monotonic() - tried_at >= every_s
        last, now = self._last_look(table), datetime.now(UTC)
        # A look in the future is the mark of a clock that went wrong: nobody waits until then.
        return last is None or not now - timedelta(seconds=every_s) < last <= now

    def _last_look(self, table: RetrieveTable) -> datetime | None:
        with self._database.read() as connection:
            return sightings.looked_at(connection, table.name)

    def _look(self, table: RetrieveTable) -> None:
        """The peer is asked, and what is new there is fetched; on a thread of its own."""
        began = datetime.now(UTC)
        try:
            last = self._last_look(table)
            self._unsettled[table.name], short = self._fetch_new(table, days_asked(table, last, date.today()))
            with self._database.begin() as connection:
                sightings.look(connection, table.name, began)
            if short:
                self._fail(table, "; ".join(short))
            elif not self._unsettled[table.name] and self._failing.pop(table.name, ""):
                LOG.info("retrieve: %s: %s answers again", table.name, table.from_peer)
        except DatabaseAway as fault:
            LOG.error("retrieve: %s waits: %s", table.name, fault)
        except (PeerUnreachable, PeerRejected) as fault:
            self._fail(table, str(fault))
        except Exception as fault:  # nothing that a peer does may end the asking
            LOG.exception("retrieve: %s failed and is tried again", table.name)
            self._fail(table, f"internal fault {type(fault).__name__}; the log has the trace")

    def _fail(self, table: RetrieveTable, reason: str) -> None:
        """Said once while the reason stays the same: a peer that is away all night must not fill the audit."""
        if self._failing.get(table.name) != reason:
            LOG.warning("retrieve: %s: %s", table.name, reason)
            self._tell("retrieve failed", table.from_peer, {"rule": table.name, "reason": reason[:500]})
        self._failing[table.name] = reason

    def _fetch_new(self, table: RetrieveTable, days: str) -> tuple[bool, list[str]]:
        """Whether a series was seen that may still grow, or is left for the next time; and what did not come."""
        config = self._config()
        asked = Question(
            modality=table.modality,
            series_description=table.description,
            study_description=table.study_description,
            study_date=days,
        )
        peer = config.peers[table.from_peer]
        unsettled, short, due = False, [], []
        with Finder(peer, ae_title=config.node.ae_title, identity=config.tls) as finder:
            for one in list(finder.series(asked)):
                tries, is_settled = self._tries(table, finder, one)
                unsettled = unsettled or not is_settled
                if tries is not None:
                    due.append((tries, one))
            # What failed before comes last: it must not take the turn of what is new, day after day.
            due.sort(key=lambda pair: pair[0])
            for _, one in due[: table.most]:
                try:
                    brought = bring_series(self._fetcher(), finder, one, self._database, how=table.how, by=table.name)
                except NoAssociation:
                    raise
                except (PeerUnreachable, PeerRejected) as fault:
                    short.append(f"series {one.series_instance_uid}: {fault}")
                    continue
                if brought.fetched or brought.failed:
                    details = retrieved(one, brought, how=table.how, by=table.name)
                    self._tell("series retrieved", table.from_peer, details)
                if not brought.is_whole:
                    short.append(f"series {one.series_instance_uid}: {brought.shortfall}")
        return unsettled or len(due) > table.most, short

    def _tries(self, table: RetrieveTable, finder: Finder, series: FoundSeries) -> tuple[int | None, bool]:
        """How often the series failed that is to be fetched now, None: it is not; and whether it is done with.

        It is fetched once its count stood still between two looks, unless it is here.
        """
        uid = series.series_instance_uid
        with self._database.read() as connection:
            known = sightings.sighting(connection, table.from_peer, uid)
        instances = len(finder.instances(series)) if series.instances is None else series.instances
        if known is not None and known.state is Sight.FETCHED:
            if instances <= known.instances:
                return None, True
            # Some peers count more than they list: only what is listed can be new.
            instances = len(finder.instances(series))
            if instances <= known.instances:
                return None, True
        if known is not None and known.instances == instances:
            return known.tries, True
        with self._database.begin() as connection:
            state = Sight.SEEN
            try:
                held = catalog.get_series(connection, uid)
            except LookupError:
                pass
            else:
                if held.origin is Origin.DERIVED or held.instance_count >= instances:
                    state = Sight.FETCHED
            sightings.saw(
                connection,
                peer=table.from_peer,
                series_instance_uid=uid,
                study_instance_uid=series.study_instance_uid,
                rule=table.name,
                state=state,
                instances=instances,
                now=datetime.now(UTC),
            )
        return None, state is Sight.FETCHED


def days_asked(table: RetrieveTable, last_look: datetime | None, today: date) -> str:
    """The study dates that are asked for: the table's days, and those since the last look that ended well.

    Without an end: where a scanner's clock is ahead, or midnight is earlier, today is tomorrow.
    """
    seen = today if last_look is None else min(today, last_look.astimezone().date())
    first = max(seen, today - timedelta(days=MOST_DAYS_BACK)) - timedelta(days=table.days)
    return f"{first:%Y%m%d}-"
