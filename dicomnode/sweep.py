"""The sweep: what arrived is listed, what is whole becomes jobs, what happened enters the audit."""

from __future__ import annotations

import logging
import queue
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from dicomnode import gather, route
from dicomnode.config import Config
from dicomnode.stores import Stores
from storage import audit, catalog
from storage.catalog import Instance
from storage.errors import DatabaseAway, StaleState

LOG = logging.getLogger(__name__)


class Sweep:
    """One call sweeps once; it keeps what it has looked at, so that nothing is looked at twice for nothing."""

    def __init__(
        self, config: Callable[[], Config], stores: Stores, *, listed: Callable[[Sequence[Instance]], None]
    ) -> None:
        """config: the one in force, asked each time; listed: told of the instances that are new."""
        self._config, self._stores, self._listed = config, stores, listed
        self._happened: queue.SimpleQueue[tuple[str, str, Mapping[str, Any]]] = queue.SimpleQueue()
        self._pending: list[tuple[str, str, Mapping[str, Any]]] = []
        self._looked_at: dict[str, tuple[int, int, int]] = {}
        self._not_routed: set[tuple[str, int, int]] = set()

    def tell(self, event: str, peer: str, details: Mapping[str, Any]) -> None:
        """What the audit must know: written at the next sweep; any thread may tell."""
        self._happened.put((event, peer, details))

    def look_again(self) -> None:
        """The config has changed: every open series is asked again."""
        self._looked_at.clear()

    def __call__(self) -> None:
        """What arrived is listed; what is whole becomes jobs."""
        self._write_happenings()
        now = datetime.now(UTC)
        database, config = self._stores.database, self._config()
        names = {peer.ae_title: name for name, peer in config.peers.items()}
        gather.list_arrivals(
            database, self._stores.files, peer_of=lambda title: names.get(title, title), listed=self._listed
        )
        with database.read() as connection:
            waiting = catalog.open_series(connection)
        for series in waiting:
            try:
                self._close_when_whole(series, now)
            except DatabaseAway:
                raise
            except Exception as fault:  # one series must not hold up the others
                self._tell_not_routed(series, fault)

    def _tell_not_routed(self, series: catalog.Series, fault: Exception) -> None:
        """Said once for what came of the series; it stays open and is tried again at every sweep."""
        told = (series.series_instance_uid, series.generation, series.instance_count)
        if told not in self._not_routed:
            self._not_routed.add(told)
            LOG.exception("route: series %s cannot be routed and stays open", series.series_instance_uid)
            details = {"series_instance_uid": series.series_instance_uid, "reason": type(fault).__name__}
            self.tell("series not routed", series.peer, details)

    def _close_when_whole(self, series: catalog.Series, now: datetime) -> None:
        config = self._config()
        peer = config.peers.get(series.peer)
        quiet_s = config.node.quiet_seconds if peer is None or peer.quiet_seconds is None else peer.quiet_seconds
        age_s = (now - series.last_received_at).total_seconds()
        # Asked when something came, when a reached count has stood long enough, and from the quiet time on.
        phase = (age_s >= gather.ACQUISITION_SETTLE_S) + (age_s >= quiet_s)
        seen = (series.generation, series.instance_count, phase)
        if age_s < quiet_s and self._looked_at.get(series.series_instance_uid) == seen:
            return
        self._looked_at[series.series_instance_uid] = seen
        with self._stores.database.read() as connection:
            instances = catalog.series_instances(connection, series.series_instance_uid)
        headers = [instance.header for instance in instances]
        because = gather.whole_because(series, headers, quiet_seconds=quiet_s, now=now)
        if because is None:
            return
        try:
            made = route.route_series(self._stores.database, series, instances, config=config, because=because, now=now)
        except StaleState:
            return  # an instance came meanwhile: asked again at the next sweep
        self._looked_at.pop(series.series_instance_uid, None)
        LOG.info("route: series %s is whole (%s): %d jobs", series.series_instance_uid, because, len(made))

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
