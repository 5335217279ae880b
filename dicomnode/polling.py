"""`[[retrieve]]`: peers are asked from time to time for series that are new there, and nothing is fetched twice."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial

from dicomnode.bring import Brought, bring_series, retrieved
from dicomnode.config import Config
from dicomnode.errands import Errands
from dicomnode.errors import PeerRejected, PeerUnreachable
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


class Poller:
    """One call asks whoever it is time to ask, each on a thread of its own."""

    def __init__(
        self, config: Callable[[], Config], database: Database, fetcher: Callable[[], Fetcher], *, tell: Happening
    ) -> None:
        """config: the one in force, asked each time; tell: of what the audit must know."""
        self._config, self._database, self._fetcher, self._tell = config, database, fetcher, tell
        self._errands = Errands()
        self._unsettled: dict[str, bool] = {}
        self._failing: dict[str, str] = {}

    def __call__(self) -> None:
        """Every `[[retrieve]]` whose time has come is begun."""
        now = datetime.now(UTC)
        for table in self._config().retrieve:
            if self._errands.is_out(table.name):
                continue
            with self._database.read() as connection:
                last = sightings.looked_at(connection, table.name)
            every_s = table.every_minutes * 60
            if self._unsettled.get(table.name):
                every_s = min(every_s, SETTLE_S)
            if last is None or last + timedelta(seconds=every_s) <= now:
                self._errands.send(table.name, partial(self._look, table))

    def _look(self, table: RetrieveTable) -> None:
        """The peer is asked, and what is new there is fetched; on a thread of its own."""
        try:
            with self._database.begin() as connection:
                sightings.look(connection, table.name, datetime.now(UTC))
            self._unsettled[table.name] = self._fetch_new(table)
            if self._failing.pop(table.name, ""):
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

    def _fetch_new(self, table: RetrieveTable) -> bool:
        """Whether a series was seen that may still grow, or is left for the next time."""
        config = self._config()
        asked = Question(
            modality=table.modality,
            series_description=table.description,
            study_description=table.study_description,
            study_date=f"last {table.days}" if table.days else "today",
        )
        peer = config.peers[table.from_peer]
        unsettled, fetched, short = False, 0, []
        with Finder(peer, ae_title=config.node.ae_title, identity=config.tls) as finder:
            for one in list(finder.series(asked)):
                instances = len(finder.instances(one)) if one.instances is None else one.instances
                if not self._is_due(table, one, instances):
                    with self._database.read() as connection:
                        known = sightings.sighting(connection, table.from_peer, one.series_instance_uid)
                    unsettled = unsettled or (known is not None and known.state is not Sight.FETCHED)
                    continue
                if fetched >= table.most:
                    return True
                fetched += 1
                brought = bring_series(self._fetcher(), finder, one, self._database, how=table.how)
                self._remember(table, one, brought)
                if brought.fetched or brought.failed:
                    details = retrieved(one, brought, how=table.how, by=table.name)
                    self._tell("series retrieved", table.from_peer, details)
                if not brought.is_whole:
                    short.append(f"series {one.series_instance_uid}: {brought.shortfall}")
        if short:
            self._fail(table, "; ".join(short))
        return unsettled

    def _is_due(self, table: RetrieveTable, series: FoundSeries, instances: int) -> bool:
        """Whether the series is to be fetched now: its count stood still between two looks and is not here yet."""
        uid = series.series_instance_uid
        with self._database.begin() as connection:
            known = sightings.sighting(connection, table.from_peer, uid)
            if known is not None and known.instances == instances:
                return known.state is not Sight.FETCHED
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
        return False

    def _remember(self, table: RetrieveTable, series: FoundSeries, brought: Brought) -> None:
        with self._database.begin() as connection:
            sightings.saw(
                connection,
                peer=table.from_peer,
                series_instance_uid=series.series_instance_uid,
                study_instance_uid=series.study_instance_uid,
                rule=table.name,
                state=Sight.FETCHED if brought.is_whole else Sight.WANTED,
                instances=brought.instances,
                now=datetime.now(UTC),
                reason=brought.shortfall,
            )
