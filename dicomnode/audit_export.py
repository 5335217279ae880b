"""The audit leaves the house: every row becomes a message to the syslog receiver, in order, and waits while it is away.

The audit's own table is the spool, with a cursor beside it: see storage/audit_spool.py.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from ssl import SSLContext

from dicomnode.audit_events import SUCCESS, kind_of
from dicomnode.audit_message import Reporter, audit_message
from dicomnode.audit_settings import AuditExportSettings, AuditReceiver
from dicomnode.config import Config
from dicomnode.errors import ReceiverAway, TlsFault
from dicomnode.syslog import LONGEST, send_messages, syslog_message
from dicomnode.tls import caller_context
from storage import audit, audit_spool
from storage.audit_spool import Lag, Waiting
from storage.database import Database

LOG = logging.getLogger(__name__)
CURSOR = "syslog"
BATCH = 200
"""Rows that one connection carries: so many may arrive twice after a fault, and none is lost."""
EVERY_S, LONGEST_PAUSE_S = 1.0, 60.0
AWAY_ROW_S = 60.0
"""The audit hears of an outage when it has lasted so long."""


class AuditExport:
    """One call sends what waits; on a fault it waits longer each time before the next is worth making."""

    def __init__(
        self,
        config: Callable[[], Config],
        database: Database,
        *,
        stopping: Callable[[], bool] = lambda: False,
        batch: int = BATCH,
        away_row_s: float = AWAY_ROW_S,
    ) -> None:
        """config: the one in force, asked each time; stopping: asked between batches."""
        self._config, self._database, self._stopping = config, database, stopping
        self._batch, self._away_row_s = batch, away_row_s
        self._size = batch
        """Rows of the next batch: fewer after each fault, so that a slow receiver gets through one; then more again."""
        self._faults = 0
        self._failing_since: float | None = None
        self._told_away = False
        self._reporter: tuple[Config, Reporter] | None = None
        self.reason = ""
        """Why the last call could not send; empty: it could."""

    @property
    def pause_s(self) -> float:
        """How long to wait before the next call."""
        return min(LONGEST_PAUSE_S, EVERY_S * float(1 << self._faults))

    @property
    def failing_s(self) -> float:
        """For how long the receiver has taken nothing although something waits; 0: it takes."""
        return 0.0 if self._failing_since is None else time.monotonic() - self._failing_since

    def __call__(self) -> None:
        """Everything that waits is with the receiver, or it is away, which is logged and no fault of the caller."""
        config = self._config()
        receiver = config.audit_export
        if receiver is None:
            return
        try:
            while not self._stopping() and self._send_batch(config, receiver):
                pass
        except (ReceiverAway, TlsFault) as fault:
            self._size = max(1, self._size // 2)
            self._note_away(str(fault))
        except Exception as fault:  # ours: the caller says it, monitors hear of it too, and it is tried ever less often
            self._note_failing(f"{type(fault).__name__} on our side; the log says more")
            raise

    def lag(self) -> Lag | None:
        """How much waits; None where nothing is exported."""
        if self._config().audit_export is None:
            return None
        with self._database.read() as connection:
            return audit_spool.lag(connection, CURSOR)

    def _send_batch(self, config: Config, receiver: AuditReceiver) -> bool:
        """Whether there was anything to send."""
        settings = receiver.settings
        with self._database.read() as connection:
            begin = audit_spool.cursor(connection, CURSOR)
            rows = audit_spool.rows_after(connection, begin, limit=self._size, with_patient=settings.patient_id)
        if not rows:
            return False
        reporter = self._reporter_of(config, settings)
        send_messages(settings.place, list(messages_of(rows, reporter, settings)), tls=tls_of(receiver))
        now = datetime.now(UTC)
        with self._database.begin() as connection:
            audit_spool.move_cursor(connection, CURSOR, expected=begin, seq=rows[-1].entry.seq, now=now)
            if self._told_away:
                details = {"reason": f"the receiver takes messages again after {self.failing_s:.0f} s"}
                audit.append(connection, "audit export back", details=details)
        self._note_back()
        self._size = min(self._batch, self._size + self._size // 4 + 1)
        return True

    def _reporter_of(self, config: Config, settings: AuditExportSettings) -> Reporter:
        if self._reporter is None or self._reporter[0] is not config:
            self._reporter = (config, reporter_of(config, settings, self._database.deployment_uuid()))
        return self._reporter[1]

    def _note_failing(self, reason: str) -> bool:
        """Whether it is the first fault of this outage."""
        self._faults, self.reason = min(self._faults + 1, 16), reason
        if self._failing_since is not None:
            return False
        self._failing_since = time.monotonic()
        return True

    def _note_away(self, reason: str) -> None:
        if self._note_failing(reason):
            LOG.warning("audit export: %s; the audit keeps what waits", reason)
        if not self._told_away and self.failing_s >= self._away_row_s:
            LOG.error("audit export: for %.0f s nothing could be sent: %s", self.failing_s, reason)
            with self._database.begin() as connection:
                audit.append(connection, "audit export away", details={"reason": reason[:200]})
            self._told_away = True

    def _note_back(self) -> None:
        if self._failing_since is not None:
            LOG.warning("audit export: the receiver is back after %.0f s", self.failing_s)
        self._faults, self._failing_since, self._told_away, self.reason = 0, None, False, ""


def reporter_of(config: Config, settings: AuditExportSettings | None, deployment_uuid: str) -> Reporter:
    """Who tells, by the admin's files."""
    node = config.node
    return Reporter(
        ae_title=node.ae_title,
        host=socket.gethostname(),
        source_id=(settings.source_id if settings is not None else "") or node.ae_title,
        deployment_uuid=deployment_uuid,
        enterprise_site=settings.enterprise_site if settings is not None else "",
        peers=config.peers,
    )


def messages_of(rows: list[Waiting], reporter: Reporter, settings: AuditExportSettings | None) -> Iterator[bytes]:
    """The syslog message of each row."""
    longest = LONGEST["tls" if settings is None else settings.transport]
    for row in rows:
        yield syslog_message(
            audit_message(row, reporter, longest=longest),
            at=row.entry.at,
            host=reporter.host,
            seq=row.entry.seq,
            process=str(os.getpid()),
            warns=kind_of(row.entry).outcome != SUCCESS,
        )


def tls_of(receiver: AuditReceiver) -> Callable[[], SSLContext] | None:
    """What a connection to the receiver is wrapped with, its files read anew each time; None without TLS."""
    identity = receiver.identity
    return None if identity is None else lambda: caller_context(identity)
