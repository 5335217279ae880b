"""The sweep: what arrived is listed, what is whole becomes jobs, what happened enters the audit."""

from __future__ import annotations

import logging
import queue
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from dicomnode import gather, route
from dicomnode.config import Config
from dicomnode.hearing import Hearing
from dicomnode.stores import Stores
from dicomnode.whole import ACQUISITION_SETTLE_S, Tally, whole_because
from storage import audit, catalog
from storage.catalog import Instance
from storage.errors import DatabaseAway, StaleState

LOG = logging.getLogger(__name__)
UNTIDY, UNTIDY_S = 1000, 5.0
"""So many settled files keep their second name, and so long at most: the folders are synced for all of them at once."""
PASS_OVER_S = 30.0
LONGEST_PAUSE_S = 10.0
ROUTE_AGAIN_S = 10.0


class Sweep:
    """One call sweeps once; it keeps what it has looked at, so that nothing is looked at twice for nothing."""

    def __init__(
        self,
        config: Callable[[], Config],
        stores: Stores,
        *,
        listed: Callable[[Sequence[Instance]], None],
        routed: Callable[[], None] = lambda: None,
    ) -> None:
        """config: the one in force, asked each time; listed: told of new instances; routed: that jobs wait."""
        self._config, self._stores, self._listed, self._routed = config, stores, listed, routed
        self._happened: queue.SimpleQueue[tuple[str, str, Mapping[str, Any]]] = queue.SimpleQueue()
        self._pending: list[tuple[str, str, Mapping[str, Any]]] = []
        self._looked_at: dict[str, tuple[int, int, int]] = {}
        self._hearing = Hearing(stores.files)
        self._tallies: dict[str, Tally] = {}
        """What is known of open series without asking; made anew from SQL when it has not seen every instance."""
        self._not_routed: dict[tuple[str, int, int], float] = {}
        """Series that could not be routed, and when they are tried again."""
        self._passed_over: set[Path] = set()
        self._passed_over_until = self._untidy_since = self._list_at = self._pause_s = 0.0

    def tell(self, event: str, peer: str, details: Mapping[str, Any]) -> None:
        """What the audit must know: written at the next sweep; any thread may tell."""
        self._happened.put((event, peer, details))

    def look_again(self) -> None:
        """The config has changed: every open series is asked again."""
        self._looked_at.clear()
        self._not_routed = dict.fromkeys(self._not_routed, 0.0)

    def __call__(self) -> bool:
        """What arrived is listed; what is whole becomes jobs. Whether more waits, which the next sweep lists."""
        self._write_happenings()
        self._hearing.look()
        more = self._list_arrivals()
        with self._stores.database.read() as connection:
            waiting = catalog.open_series(connection)
        self._forget_all_but({series.series_instance_uid for series in waiting})
        for series in waiting:
            try:
                self._close_when_whole(series)
            except DatabaseAway:
                raise
            except Exception as fault:  # one series must not hold up the others
                self._tell_not_routed(series, fault)
        return more

    def tidy(self) -> None:
        """Nothing is left half done; what a fault leaves is done at the next start."""
        self._stores.files.tidy()

    def _list_arrivals(self) -> bool:
        """Whether more waits. After a fault of disk or database it waits a little longer each time before it reads on.

        What is listed goes by in portions, so that a long backlog does not hold up the series that are whole.
        """
        moment = time.monotonic()
        if moment < self._list_at:
            return False
        if moment >= self._passed_over_until:
            self._passed_over, self._passed_over_until = set(), moment + PASS_OVER_S
        names = {peer.ae_title: name for name, peer in self._config().peers.items()}
        files = self._stores.files
        if not files.untidy:
            self._untidy_since = moment
        try:
            listing = gather.list_arrivals(
                self._stores.database,
                files,
                peer_of=lambda title: names.get(title, title),
                listed=self._count,
                passed_over=self._passed_over,
            )
            if not listing.count or files.untidy >= UNTIDY or moment - self._untidy_since >= UNTIDY_S:
                files.tidy()
            self._hearing.listed(listing.until)
        except Exception:
            self._pause_s = min(LONGEST_PAUSE_S, 2 * self._pause_s or 1.0)
            self._list_at = time.monotonic() + self._pause_s
            raise
        self._pause_s = 0.0
        return listing.more

    def _count(self, new: Sequence[Instance]) -> None:
        """New instances enter the tallies; a series that is not known yet gets one."""
        for instance in new:
            self._tallies.setdefault(instance.series_instance_uid, Tally()).add(instance)
        self._listed(new)

    def _forget_all_but(self, open_series: set[str]) -> None:
        self._tallies = {uid: tally for uid, tally in self._tallies.items() if uid in open_series}
        self._looked_at = {uid: seen for uid, seen in self._looked_at.items() if uid in open_series}
        self._not_routed = {told: again for told, again in self._not_routed.items() if told[0] in open_series}
        self._hearing.forget_all_but(open_series)

    def _tell_not_routed(self, series: catalog.Series, fault: Exception) -> None:
        """Said once for what came of the series; it stays open and is tried again later."""
        told = _as_seen(series)
        if told not in self._not_routed:
            LOG.exception("route: series %s cannot be routed and stays open", series.series_instance_uid)
            details = {"series_instance_uid": series.series_instance_uid, "reason": type(fault).__name__}
            self.tell("series not routed", series.peer, details)
        self._not_routed[told] = time.monotonic() + ROUTE_AGAIN_S

    def _close_when_whole(self, series: catalog.Series) -> None:
        config, uid = self._config(), series.series_instance_uid
        peer = config.peers.get(series.peer)
        quiet_s = config.node.quiet_seconds if peer is None or peer.quiet_seconds is None else peer.quiet_seconds
        age_s = self._hearing.quiet_s(series, enough_s=quiet_s)
        # Asked when something came, when a reached count has stood long enough, and from the quiet time on.
        phase = (age_s >= ACQUISITION_SETTLE_S) + (age_s >= quiet_s)
        seen = (series.generation, series.instance_count, phase)
        if age_s < quiet_s and self._looked_at.get(uid) == seen:
            return
        if time.monotonic() < self._not_routed.get(_as_seen(series), 0.0):
            return
        quiet_until = series.last_received_at + timedelta(seconds=age_s)
        because = whole_because(series, self._tally_of(series), quiet_seconds=quiet_s, now=quiet_until)
        if because is None:
            self._looked_at[uid] = seen
            return
        self._looked_at.pop(uid, None)  # until it is routed it is asked again: the database may be away just now
        with self._stores.database.read() as connection:
            instances = catalog.series_instances(connection, uid)
        try:
            now = datetime.now(UTC)
            made = route.route_series(self._stores.database, series, instances, config=config, because=because, now=now)
        except StaleState:
            return  # an instance came meanwhile: asked again at the next sweep
        self._tallies.pop(uid, None)
        self._routed()
        LOG.info("route: series %s is whole (%s): %d jobs", uid, because, len(made))

    def _tally_of(self, series: catalog.Series) -> Tally:
        """Its numbers; asked of SQL after a restart, and whenever somebody else has listed an instance of it."""
        uid = series.series_instance_uid
        tally = self._tallies.get(uid)
        if tally is None or tally.instance_count != series.instance_count:
            with self._stores.database.read() as connection:
                tally = Tally(catalog.series_instances(connection, uid))
            self._tallies[uid] = tally
        return tally

    def _write_happenings(self) -> None:
        """What the other threads told enters the audit; what cannot be written now is kept for the next sweep."""
        while not self._happened.empty():
            self._pending.append(self._happened.get_nowait())
        while self._pending:
            event, peer, details = self._pending[0]
            try:
                with self._stores.database.begin() as connection:
                    series_uid = str(details.get("series_instance_uid", ""))
                    audit.append(connection, event, series_instance_uid=series_uid, peer=peer, details=details)
            except DatabaseAway:
                raise
            except Exception:  # a row the audit refuses must not hold back the others
                LOG.exception("node: the audit does not take a row of %r", event)
            self._pending.pop(0)


def _as_seen(series: catalog.Series) -> tuple[str, int, int]:
    """The series with what came of it so far."""
    return series.series_instance_uid, series.generation, series.instance_count
