"""A DICOMDIR over exported files, which then lie where it says (PS3.10 8.6); their bytes stay as they are."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from warnings import catch_warnings, simplefilter

from pydicom import dcmread
from pydicom.fileset import FileSet

from dicomnode.export_papers import ExportFault


def make_dicomdir(folder: Path, files: Mapping[str, Path]) -> dict[str, str]:
    """SOP Instance UID -> name in the folder that now has a DICOMDIR; the files were moved there.

    Raises ExportFault for what a directory record cannot name, e.g. a study without a date.
    """
    directory = FileSet()
    with catch_warnings():
        simplefilter("ignore")  # pydicom's words repeat values
        for path in files.values():
            try:
                directory.add(dcmread(path, stop_before_pixels=True))
            except (ValueError, AttributeError, NotImplementedError):
                raise ExportFault("a DICOMDIR cannot name every instance: one lacks what its record needs") from None
        directory.write(folder)
    names = {}
    for entry in directory:
        uid = str(entry.SOPInstanceUID)
        place = Path(entry.path)
        files[uid].replace(place)  # pydicom wrote the header alone there
        names[uid] = str(place.relative_to(folder))
    return names
