"""One frame of an enhanced instance with the functional groups that hold for it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from math import isfinite
from typing import Any

from pydicom.dataset import Dataset

from dicomnode.errors import SeriesUnusable

DATE_TIME = re.compile(r"(\d{8})(\d{2,6}(?:\.\d{1,6})?)?([+-]\d{4})?")


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """number: from 1. root: what the instance says of all its frames. shared, own: the functional groups."""

    number: int
    root: Dataset
    shared: Dataset
    own: Dataset

    def items(self, macro: str) -> Sequence[Dataset]:
        """The items of a functional group; what is said for the frame alone comes before what is said for all."""
        for groups in (self.own, self.shared):
            if macro in groups and groups[macro].value:
                return tuple(groups[macro].value)
        return ()

    def value(self, macro: str, keyword: str) -> Any:
        """The value of an attribute in a functional group; None when it is absent, empty, or its items disagree."""
        values = [item.get(keyword) for item in self.items(macro)]
        agreed = values[0] if values and all(value == values[0] for value in values) else None
        return None if agreed == "" else agreed

    def text(self, macro: str, keyword: str) -> str:
        """The value as text, empty when there is none."""
        value = self.value(macro, keyword)
        return "" if value is None else str(value).strip()

    def number_of(self, macro: str, keyword: str) -> float | None:
        """The first value as a number, None when there is none, or no finite one."""
        value = self.value(macro, keyword)
        first = value if value is None or isinstance(value, int | float | str) else next(iter(value), None)
        number = None if first is None else float(first)
        return number if number is not None and isfinite(number) else None

    @property
    def zone(self) -> str:
        """The offset from UTC that holds for the instance's times without one."""
        return str(self.root.get("TimezoneOffsetFromUTC") or "").strip()

    def local(self, date_time: str) -> str:
        """A date and time as digits in the time zone of the instance, without offset; empty when it is none."""
        found = DATE_TIME.fullmatch(date_time.strip())
        if found is None:
            return ""
        date, time, offset = found[1], found[2] or "", found[3] or ""
        if not offset or not self.zone or offset == self.zone:
            return date + time
        shifted = moment(date + time) + _offset(self.zone) - _offset(offset)
        return shifted.strftime("%Y%m%d%H%M%S.%f")

    def unusable(self, reason_code: str, fault: str) -> SeriesUnusable:
        """The refusal of the frame."""
        return SeriesUnusable(
            reason_code, f"frame {self.number} of instance {self.root.get('SOPInstanceUID', '')} {fault}"
        )


def moment(digits: str) -> datetime:
    """A local date and time of DICOM without offset; what is left out counts as zero."""
    whole, _, fraction = digits.partition(".")
    return datetime.strptime(whole.ljust(14, "0") + "." + (fraction or "0"), "%Y%m%d%H%M%S.%f")


def _offset(zone: str) -> timedelta:
    sign = -1 if zone[0] == "-" else 1
    return sign * timedelta(hours=int(zone[1:3]), minutes=int(zone[3:5]))
