"""Pure: which of the series that we hold is the one that a job needs beside its source, and why the others are not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dicomnode.conditions import Condition
from dicomnode.need_settings import NeedTable
from dicomnode.question import matches
from dicomnode.rules import SharedAttributes
from dicomnode.uids import MODEL_NAME
from storage.catalog import Origin, Series

IDENTITY = ("PatientBirthDate", "PatientSex", "IssuerOfPatientID")
"""Beside Patient ID, these must not contradict each other where both sides say them."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A series that we hold, and what its images share."""

    series: Series
    shared: SharedAttributes


def same_patient(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two headers can be of one patient: the same Patient ID, and nothing that contradicts it.

    Two that both name none are told apart by what else they say; that they are of one study is for the caller to ask.
    """
    if str(one.get("PatientID", "")) != str(other.get("PatientID", "")):
        return False
    return all(
        not one.get(keyword) or not other.get(keyword) or str(one[keyword]) == str(other[keyword])
        for keyword in IDENTITY
    )


def surely_same_patient(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two headers of different studies are of one patient: something beside the Patient ID says so.

    Two hospitals give one number to two patients; birth dates, or names where a birth date is not said, tell.
    """
    if not one.get("PatientID") or not same_patient(one, other):
        return False
    if one.get("PatientBirthDate") and other.get("PatientBirthDate"):
        return True  # equal, or they would contradict each other; names change
    name = plain_name(one.get("PatientName"))
    return bool(name) and name == plain_name(other.get("PatientName"))


def plain_name(value: object) -> tuple[str, ...]:
    """The components of a Person Name in its first writing, without case and padding (PS3.5 6.2.1)."""
    components = [part.strip().casefold() for part in str(value or "").partition("=")[0].split("^")]
    while components and not components[-1]:
        components.pop()
    return tuple(components)


def why_not(need: NeedTable, source: Candidate, candidate: Candidate) -> str:
    """Why that series does not fill the need, in words without values of the patient; empty: it does."""
    mine, its = source.shared.values, candidate.shared.values
    if candidate.series.series_instance_uid == source.series.series_instance_uid:
        return "it is the source"
    if candidate.series.origin is Origin.DERIVED or its.get("ManufacturerModelName") == MODEL_NAME:
        return "it was derived by a node of this kind"
    if its.get("Modality") != need.modality:
        return f"its modality is not {need.modality}"
    same_study = candidate.series.study_instance_uid == source.series.study_instance_uid
    if same_study != (need.of == "study"):
        return "it is of another study" if need.of == "study" else "it is of the same study"
    is_same = same_patient if same_study else surely_same_patient
    if not is_same(mine, its) or {"PatientID", *IDENTITY} & candidate.shared.differing:
        return "it is not surely of the same patient"
    if need.of == "earlier" and not (moment(its)[0] and moment(its) <= moment(mine)):
        return "it is not earlier"
    frame = "FrameOfReferenceUID"
    if need.same_frame_of_reference and (not mine.get(frame) or mine.get(frame) != its.get(frame)):
        return "it has another frame of reference"
    described = str(its.get("SeriesDescription", "")).casefold()
    if need.description and not matches(need.description.casefold(), described):
        return "its description is another"
    if need.when:
        judgement = Condition(need.when).judge(its, candidate.shared.differing)
        if judgement.met is not True:
            return f"its condition is not met, because {judgement.because}"
    return ""


def best_of(source: Candidate, fitting: Sequence[Candidate]) -> Candidate:
    """The one in the source's frame of reference, of the latest study, with most images; always the same one."""
    frame = source.shared.values.get("FrameOfReferenceUID")

    def merit(one: Candidate) -> tuple[bool, tuple[str, str], int, str]:
        in_frame = bool(frame) and one.shared.values.get("FrameOfReferenceUID") == frame
        return in_frame, moment(one.shared.values), one.series.instance_count, one.series.series_instance_uid

    return max(fitting, key=merit)


def moment(values: Mapping[str, Any]) -> tuple[str, str]:
    """Study date and time, to compare; empty where they are not said."""
    return str(values.get("StudyDate", "")), str(values.get("StudyTime", ""))
