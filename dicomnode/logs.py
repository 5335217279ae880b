"""How a fault is logged: where it rose and of what kind, never its words, which may quote a data set."""

from __future__ import annotations

import logging
import traceback
from types import TracebackType


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
