"""How the log is written: as text or as JSON, and of a fault its place and kind, never its words."""

from __future__ import annotations

import json
import logging
import traceback
from datetime import UTC, datetime
from types import TracebackType
from typing import Literal

LogFormat = Literal["text", "json"]
QUIET_LIBRARIES = ("pynetdicom", "alembic", "sqlalchemy", "pydicom")
"""Their words repeat values of data sets; what matters of them is said in our own."""
_OF_A_RECORD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}


class DiscreetFormatter(logging.Formatter):
    """Traces with frames and the exception's kind; its message is left out."""

    def formatException(
        self, ei: tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]
    ) -> str:
        """The frames and the kinds of the exception and of its causes."""
        lines: list[str] = []
        fault = ei[1]
        while fault is not None:
            lines += [f"{type(fault).__name__}, at:", *traceback.format_tb(fault.__traceback__)]
            fault = fault.__cause__
            if fault is not None:
                lines.append("because of ")
        return "".join(lines).rstrip()


class JsonFormatter(DiscreetFormatter):
    """One JSON object a line: time, level, room, message, and what the call gave as `extra`."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as one line of ASCII: no value can break it in two."""
        message = record.getMessage()
        room, separator, _ = message.partition(": ")
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "room": room if separator and room.isidentifier() else record.name.rpartition(".")[2],
            "message": message,
            "process": record.process,
        }
        if record.exc_info and record.exc_info[0] is not None:
            line["trace"] = self.formatException(record.exc_info)
        given = {key: value for key, value in vars(record).items() if key not in _OF_A_RECORD and key not in line}
        return json.dumps(line | given, default=lambda value: type(value).__name__)


def log_to_stderr(level: int | str, log_format: LogFormat) -> None:
    """Everything from `level` on goes to standard error, and of other libraries only what quotes nothing."""
    handler = logging.StreamHandler()
    kind = JsonFormatter if log_format == "json" else DiscreetFormatter
    handler.setFormatter(kind("%(asctime)s %(levelname)s %(message)s"))
    logging.basicConfig(level=level.upper() if isinstance(level, str) else level, handlers=[handler], force=True)
    for library in QUIET_LIBRARIES:
        logging.getLogger(library).setLevel(logging.CRITICAL)
    logging.getLogger("dbos").setLevel(logging.ERROR)
