"""What a pipeline's measurements are called in DICOM: a code of ours by the name, a UCUM unit by the name's end."""

from __future__ import annotations

from dataclasses import dataclass

from pydicom.sr.coding import Code

from dicomnode.provenance import ascii_text
from dicomnode.uids import CODING_SCHEME

UNITS_BY_SUFFIX: dict[str, Code] = {
    "_bq_per_ml": Code("Bq/ml", "UCUM", "becquerel per milliliter"),
    "_per_cm": Code("/cm", "UCUM", "per centimeter"),
    "_percent": Code("%", "UCUM", "percent"),
    "_suv": Code("g/ml{SUVbw}", "UCUM", "standardized uptake value body weight"),
    "_ml": Code("ml", "UCUM", "milliliter"),
    "_hu": Code("[hnsf'U]", "UCUM", "Hounsfield unit"),
    "_mm": Code("mm", "UCUM", "millimeter"),
    "_deg": Code("deg", "UCUM", "degree"),
    "_db": Code("dB", "UCUM", "decibel"),
    "_s": Code("s", "UCUM", "second"),
}
"""The end of a measurement's name and the unit it stands for; longer ends first."""
COUNTED = ("slices", "voxels", "frames", "components")
"""A name with one of these words in front counts them."""
NO_UNIT = Code("1", "UCUM", "no units")


@dataclass(frozen=True, slots=True)
class CodedName:
    """A measurement's name as a concept (code, scheme 99DCMNODE, meaning in words) and the unit of its value."""

    concept: Code
    unit: Code


def number_of(name: CodedName, value: float) -> int | float:
    """The value as it is written: a count whole, all else to six digits, which is more than is meant."""
    is_count = name.unit.value.startswith("{")
    return int(value) if is_count and float(value).is_integer() else float(f"{value:.6g}")


def coded_name(name: str) -> CodedName:
    """The concept and the unit of a measurement of that name, e.g. metal_volume_ml: "metal volume" in ml."""
    for suffix, unit in UNITS_BY_SUFFIX.items():
        if name.endswith(suffix) and name != suffix:
            return CodedName(_concept(name, name.removesuffix(suffix)), unit)
    counted = name.partition("_")[0]
    if counted in COUNTED:
        return CodedName(_concept(name, name), Code(f"{{{counted}}}", "UCUM", counted))
    return CodedName(_concept(name, name), NO_UNIT)


def _concept(name: str, words: str) -> Code:
    # PS3.3 8.8: Code Meaning is LO; the code itself may be longer than SH and is then a Long Code Value
    return Code(ascii_text(name, longest=64), CODING_SCHEME, ascii_text(words.replace("_", " "), longest=64))


COUNTS = {
    "slices": coded_name("slices_with_the_mask"),
    "voxels": coded_name("voxels_of_the_mask"),
    "unchanged": coded_name("slices_passed_through_unchanged"),
}
"""What the reports count beside the pipeline's own measurements."""
