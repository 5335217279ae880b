"""A DICOMDIR over exported files, which then lie where it says (PS3.10 8.6); their bytes stay as they are."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from warnings import catch_warnings, simplefilter

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.fileset import FileSet

from dicomnode.export_papers import ExportFault


def make_dicomdir(folder: Path, files: Mapping[str, Path]) -> dict[str, str]:
    """SOP Instance UID -> name in the folder that now has a DICOMDIR; the files were moved there.

    Numbers that records must have and images may lack (Study ID, Series and Instance Number) are counted, in the
    DICOMDIR alone. Raises ExportFault for what a record cannot name, e.g. a study without a date.
    """
    directory, numbers = FileSet(), _Numbers()
    with catch_warnings():
        simplefilter("ignore")  # pydicom's words repeat values
        for path in files.values():
            try:
                directory.add(numbers.given_to(dcmread(path, stop_before_pixels=True)))
            except (ValueError, AttributeError, NotImplementedError):
                raise ExportFault("a DICOMDIR cannot name every instance: one lacks what its record needs") from None
        directory.write(folder)
    names = {}
    for entry in directory:
        uid = str(entry.SOPInstanceUID)
        place = Path(entry.path)
        files[uid].replace(place)  # pydicom wrote the header alone there
        names[uid] = str(place.resolve().relative_to(folder.resolve()))
    return names


class _Numbers:
    """The place of every study, series and instance among those beside it, counted from 1."""

    def __init__(self) -> None:
        self._places: dict[str, dict[str, int]] = {}

    def given_to(self, dataset: Dataset) -> Dataset:
        """The header with a number wherever a directory record must have one (PS3.3 F.5) and it has none."""
        within = ""
        for level, keyword in (("Study", "StudyID"), ("Series", "SeriesNumber"), ("SOP", "InstanceNumber")):
            uid = str(dataset[f"{level}InstanceUID"].value)
            beside = self._places.setdefault(within, {})
            number = beside.setdefault(uid, len(beside) + 1)
            if dataset.get(keyword) is None or not str(dataset[keyword].value).strip():
                setattr(dataset, keyword, str(number))
            within = uid
        return dataset
