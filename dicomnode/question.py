"""Pure: what a C-FIND asks for, and whether an answer is what was asked: a peer may leave out keys it does not know."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import date, timedelta
from typing import Any

from pydicom.dataset import Dataset

STUDY_ROOT_FIND = "1.2.840.10008.5.1.4.1.2.2.1"
STUDY_ROOT_MOVE = "1.2.840.10008.5.1.4.1.2.2.2"
STUDY_ROOT_GET = "1.2.840.10008.5.1.4.1.2.2.3"
DAY = re.compile(r"\d{8}")
UTF8 = "ISO_IR 192"

OF_STUDY = {
    "patient_id": "PatientID",
    "patient_name": "PatientName",
    "study_instance_uid": "StudyInstanceUID",
    "accession_number": "AccessionNumber",
    "study_date": "StudyDate",
    "study_description": "StudyDescription",
}
OF_SERIES = {
    "modality": "Modality",
    "series_instance_uid": "SeriesInstanceUID",
    "series_description": "SeriesDescription",
}
ASKED_OF_STUDY = (
    *("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "IssuerOfPatientID", "StudyInstanceUID"),
    *("AccessionNumber", "StudyDate", "StudyTime", "StudyDescription", "ModalitiesInStudy"),
    *("NumberOfStudyRelatedSeries", "NumberOfStudyRelatedInstances"),
)
ASKED_OF_SERIES = (
    *("StudyInstanceUID", "SeriesInstanceUID", "Modality", "SeriesDescription", "SeriesNumber", "SeriesDate"),
    *("SeriesTime", "NumberOfSeriesRelatedInstances"),
)
ASKED_OF_IMAGE = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID")


@dataclass(frozen=True, slots=True)
class Question:
    """What is looked for; an empty key is any value. study_date: a day or a range; modality: one of these.

    Names and descriptions may hold the wildcards * and ?.
    """

    patient_id: str = ""
    patient_name: str = ""
    study_instance_uid: str = ""
    accession_number: str = ""
    study_date: str = ""
    study_description: str = ""
    modality: tuple[str, ...] = ()
    series_instance_uid: str = ""
    series_description: str = ""

    def __post_init__(self) -> None:
        """Raises ValueError for a date that is none, and for what would ask for several values at once."""
        object.__setattr__(self, "study_date", days(self.study_date))
        for one in fields(self):
            value = getattr(self, one.name)
            for text in value if isinstance(value, tuple) else (value,):
                if "\\" in text or any(ord(letter) < 32 for letter in text):
                    raise ValueError(f"{one.name.replace('_', ' ')}: {text!r} holds a character that no value can have")

    @property
    def is_open(self) -> bool:
        """Whether it asks for everything that the peer holds."""
        return not any(getattr(self, one.name) for one in fields(self))

    @property
    def of_series(self) -> bool:
        """Whether it asks for certain series of a study."""
        return any(getattr(self, name) for name in OF_SERIES)

    def of_study(self, study_instance_uid: str) -> Question:
        """The same of one study only."""
        return replace(self, study_instance_uid=study_instance_uid)


def days(text: str, *, today: date | None = None) -> str:
    """A day or a range of days as DICOM writes it (PS3.4 C.2.2.2.5); 2024-05-06, "today" and "last 3" are understood.

    Raises ValueError for anything else.
    """
    now = today or date.today()
    plain = text.strip()
    if not plain:
        return ""
    if plain == "today":
        return f"{now:%Y%m%d}"
    if last := re.fullmatch(r"last (\d{1,4})( days?)?", plain):
        return f"{now - timedelta(days=int(last[1])):%Y%m%d}-{now:%Y%m%d}"
    plain = re.sub(r"(\d{4})-(\d{2})-(\d{2})", r"\1\2\3", plain)
    begin, dash, end = plain.partition("-")
    for day in (begin, end):
        if day:
            _day(day, text)
    if not begin and not end:
        raise ValueError(f"{text!r} is no day and no range of days")
    if begin and end and begin > end:
        raise ValueError(f"{text!r} ends before it begins")
    return f"{begin}{dash}{end}"


def _day(day: str, text: str) -> None:
    try:
        if not DAY.fullmatch(day):
            raise ValueError
        date(int(day[:4]), int(day[4:6]), int(day[6:]))
    except ValueError:
        expected = "expected 2024-05-06, 20240506, 20240501-20240531, 20240501-, -20240531, today or last 3"
        raise ValueError(f"{text!r} is no day and no range of days: {expected}") from None


def study_identifier(question: Question) -> Dataset:
    """The identifier of a C-FIND for studies (PS3.4 C.6.2)."""
    identifier = _identifier("STUDY", ASKED_OF_STUDY, {OF_STUDY[name]: getattr(question, name) for name in OF_STUDY})
    if len(question.modality) == 1:  # several would be a list of values, which this key does not know
        identifier.ModalitiesInStudy = question.modality[0]
    return identifier


def series_identifier(question: Question, *more: str) -> Dataset:
    """The identifier of a C-FIND for series of the one study that the question names; more: keywords asked beside."""
    wanted = {keyword: getattr(question, name) for name, keyword in OF_SERIES.items() if name != "modality"}
    wanted["StudyInstanceUID"] = question.study_instance_uid
    wanted["Modality"] = question.modality[0] if len(question.modality) == 1 else ""
    return _identifier("SERIES", (*ASKED_OF_SERIES, *more), wanted)


def image_identifier(study_instance_uid: str, series_instance_uid: str) -> Dataset:
    """The identifier of a C-FIND for the instances of a series."""
    wanted = {"StudyInstanceUID": study_instance_uid, "SeriesInstanceUID": series_instance_uid}
    return _identifier("IMAGE", ASKED_OF_IMAGE, wanted)


def retrieve_identifier(
    study_instance_uid: str, series_instance_uid: str, sop_instance_uids: Sequence[str] = ()
) -> Dataset:
    """The identifier of a C-MOVE or C-GET: a series, or some instances of it (PS3.4 C.4.2.2.1)."""
    identifier = Dataset()
    identifier.QueryRetrieveLevel = "IMAGE" if sop_instance_uids else "SERIES"
    identifier.StudyInstanceUID, identifier.SeriesInstanceUID = study_instance_uid, series_instance_uid
    if sop_instance_uids:
        identifier.SOPInstanceUID = list(sop_instance_uids)
    return identifier


def _identifier(level: str, asked: Sequence[str], wanted: Mapping[str, str]) -> Dataset:
    identifier = Dataset()
    identifier.QueryRetrieveLevel = level
    for keyword in asked:
        setattr(identifier, keyword, wanted.get(keyword, ""))
    if not all(value.isascii() for value in wanted.values()):
        identifier.SpecificCharacterSet = UTF8
    return identifier


def answers_study(question: Question, values: Mapping[str, Any]) -> bool:
    """Whether a study that a peer gave is one that was asked for: peers pass over keys that they do not know.

    The name is left to the peer, which knows more ways to write it.
    """
    names = [name for name in OF_STUDY if name != "patient_name"]
    return all(_meets(name, getattr(question, name), values.get(OF_STUDY[name])) for name in names) and (
        not question.modality or not values.get("ModalitiesInStudy") or _holds(question, values["ModalitiesInStudy"])
    )


def answers_series(question: Question, values: Mapping[str, Any]) -> bool:
    """Whether a series that a peer gave is one that was asked for; where it does not say, it is not."""
    wanted = {name: keyword for name, keyword in OF_SERIES.items() if name != "modality"}
    wanted["study_instance_uid"] = "StudyInstanceUID"
    return all(_meets(name, getattr(question, name), values.get(keyword)) for name, keyword in wanted.items()) and (
        not question.modality or str(values.get("Modality", "")) in question.modality
    )


def _holds(question: Question, modalities: Any) -> bool:
    several = modalities if isinstance(modalities, list) else str(modalities).split("\\")
    return bool(set(question.modality) & set(several))


def _meets(name: str, wanted: str, value: Any) -> bool:
    if not wanted:
        return True
    if value is None:
        return False
    text = str(value)
    if re.fullmatch(r"\d{8}-(\d{8})?|-\d{8}", wanted) and DAY.fullmatch(text):
        begin, _, end = wanted.partition("-")
        return (not begin or begin <= text) and (not end or text <= end)
    if name.endswith("description"):
        return matches(wanted.casefold(), text.casefold())
    return matches(wanted, text)


def matches(wanted: str, text: str) -> bool:
    """Whether the text is what is wanted, in which only * and ? are wildcards (PS3.4 C.2.2.2.4)."""
    pattern = "".join({"*": ".*", "?": "."}.get(letter, re.escape(letter)) for letter in wanted)
    return re.fullmatch(pattern, text, re.DOTALL) is not None
