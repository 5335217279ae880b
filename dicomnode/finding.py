"""C-FIND at a peer: the studies, series and instances that it holds, as plain values."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from pydicom.dataset import Dataset

from dicomnode.call import Patience
from dicomnode.dialogue import Ask, Dialogue
from dicomnode.errors import PeerRejected, PeerUnreachable
from dicomnode.headers import header_values
from dicomnode.peek import UID_FORM
from dicomnode.peer import Peer
from dicomnode.question import (
    STUDY_ROOT_FIND,
    Question,
    answers_series,
    answers_study,
    image_identifier,
    series_identifier,
    study_identifier,
)
from dicomnode.tls import TlsIdentity

CANCELLED, OUT_OF_RESOURCES = 0xFE00, 0xA700
IDLE_S = 5.0
"""An association that was not used for so long may have been ended by the peer: a new one is opened."""
MOST_ANSWERS = 100_000
"""A peer that gives more is asked to stop: nobody meant that question."""
Values = Mapping[str, Any]
"""Keyword -> value, as `header_values` gives them."""


@dataclass(frozen=True, slots=True)
class FoundSeries:
    """A series that a peer holds. study: what it said of its study; instances: how many it counts, None: unsaid."""

    study: Values
    values: Values

    @property
    def study_instance_uid(self) -> str:
        """Its study."""
        return str(self.values["StudyInstanceUID"])

    @property
    def series_instance_uid(self) -> str:
        """Its UID."""
        return str(self.values["SeriesInstanceUID"])

    @property
    def instances(self) -> int | None:
        """How many images the peer counts in it; None where it does not say."""
        count = self.values.get("NumberOfSeriesRelatedInstances")
        return count if isinstance(count, int) else None


@dataclass(frozen=True, slots=True)
class FoundInstance:
    """An instance that a peer holds; the class is empty where it does not say."""

    sop_instance_uid: str
    sop_class_uid: str


class Finder:
    """A peer that is asked, over one association; leave it with the block."""

    def __init__(
        self, peer: Peer, *, ae_title: str, identity: TlsIdentity | None = None, patience: Patience | None = None
    ) -> None:
        """Raises PeerUnreachable when there is no association, PeerRejected when the peer answers no questions.

        After a fault the next question opens a new association: one series that the peer stumbles over is not all.
        """
        self.peer = peer
        self._open = partial(
            Dialogue.open, peer, STUDY_ROOT_FIND, ae_title=ae_title, identity=identity, patience=patience
        )
        self._dialogue, self._used_at = self._open(), time.monotonic()

    def __enter__(self) -> Finder:
        return self

    def __exit__(self, kind: object, fault: object, at: object) -> None:
        self._dialogue.__exit__(kind, fault, at)

    def studies(self, question: Question, *, most: int | None = None) -> list[Values]:
        """The studies that are asked for, at most so many; the newest last, as the peer gives no order."""
        asked = study_identifier(question)
        found = self._found(asked, ("StudyInstanceUID",), lambda values: answers_study(question, values), most)
        return sorted(found, key=lambda values: (str(values.get("StudyDate", "")), str(values.get("StudyTime", ""))))

    def series(self, question: Question, *, most: int | None = None) -> Iterator[FoundSeries]:
        """The series that are asked for, study by study: the model is hierarchical (PS3.4 C.6.2)."""
        given = 0
        for study in self.studies(question):
            uid = str(study["StudyInstanceUID"])
            for found in self.series_of(study, question.of_study(uid)):
                if most is not None and given >= most:
                    return
                given += 1
                yield found

    def series_of(self, study: Values, question: Question, *more: str) -> list[FoundSeries]:
        """The series of one study that are asked for; question: it names the study; more: keywords asked beside.

        Some peers read a file for what is asked beside: not for every series there is.
        """
        asked = series_identifier(question, *more)
        keys = ("StudyInstanceUID", "SeriesInstanceUID")
        with_study = {"StudyInstanceUID": question.study_instance_uid}
        found = self._found(asked, keys, lambda values: answers_series(question, values), None, with_study)
        return [FoundSeries(study, values) for values in sorted(found, key=_number)]

    def instances(self, series: FoundSeries) -> list[FoundInstance]:
        """Every instance that the peer holds of the series."""
        asked = image_identifier(series.study_instance_uid, series.series_instance_uid)
        above = {"StudyInstanceUID": series.study_instance_uid, "SeriesInstanceUID": series.series_instance_uid}

        def is_its(values: Values) -> bool:
            return all(values.get(keyword) == uid for keyword, uid in above.items())

        found = self._found(asked, ("SOPInstanceUID",), is_its, None, above)
        once = {str(values["SOPInstanceUID"]): str(values.get("SOPClassUID", "")) for values in found}
        return [FoundInstance(*pair) for pair in once.items()]

    def _found(
        self,
        asked: Dataset,
        needed: tuple[str, ...],
        is_wanted: Callable[[Values], bool],
        most: int | None,
        above: Values | None = None,
    ) -> list[dict[str, Any]]:
        """The answers that are wanted; above: what an answer means that leaves the keys of higher levels out."""
        if not self._dialogue.is_open or time.monotonic() - self._used_at > IDLE_S:
            self._dialogue.release()
            self._dialogue = self._open()
        found: list[dict[str, Any]] = []
        answered, stopped = 0, False
        for answer in self._dialogue.ask(Ask.FIND, STUDY_ROOT_FIND, asked):
            if answer.is_last:
                if answer.status != 0x0000 and not (stopped and answer.status == CANCELLED):
                    raise _fault(self._dialogue.where, answer.status)
                break
            if answer.identifier is None or stopped:
                continue
            answered += 1
            values = {**(above or {}), **header_values(answer.identifier)}
            if all(UID_FORM.fullmatch(str(values.get(keyword, ""))) for keyword in needed) and is_wanted(values):
                found.append(values)
            if (most is not None and len(found) >= most) or answered >= MOST_ANSWERS:
                stopped = True
                self._dialogue.cancel()
        self._used_at = time.monotonic()
        return found


def _number(values: Values) -> tuple[int, str]:
    number = values.get("SeriesNumber")
    return (number if isinstance(number, int) else 0), str(values["SeriesInstanceUID"])


def _fault(where: str, status: int) -> Exception:
    """A refusal of C-FIND as a fault (PS3.4 Table C.4-1)."""
    if status in (OUT_OF_RESOURCES, CANCELLED):
        return PeerUnreachable(f"{where} did not finish C-FIND (status 0x{status:04X}); it is asked again later")
    if status == 0x0124:
        return PeerRejected(f"{where} does not let us query (0x0124 not authorised); allow our AE title there")
    return PeerRejected(f"{where} refused C-FIND with status 0x{status:04X}; look at its log")
