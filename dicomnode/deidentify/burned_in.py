"""Whether the pixels of an instance may show who the patient is; nothing here looks at the pixels or changes them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from pydicom.dataset import Dataset

from dicomnode.deidentify.identity import texts_of
from dicomnode.deidentify.values import words

FROM_A_DETECTOR = frozenset(
    f"1.2.840.10008.5.1.4.1.1.{last}"
    for last in words("2 2.1 2.2 4 4.1 4.3 4.4 20 128 128.1 130 30 66.1 66.2 66.4 66.7 481.2 481.3 481.5")
)
"""Images whose pixels a reconstruction or a computation makes: CT, MR, PET, NM, segmentations, maps, doses."""
CAPTURED = words("SCREEN SCREENSAVE SCREENSHOT SAVE CAPTURE REPORT DOSE PROT PROTOCOL FILMED")
"""Words of an image type by which makers name pictures of screens, e.g. SCREEN SAVE, CSA REPORT or DOSE_INFO."""
PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")


class Risk(StrEnum):
    """How likely the pixels name the patient."""

    NONE = "none"
    UNKNOWN = "unknown"
    SAID = "said"


class PixelPolicy(StrEnum):
    """What is exported: nothing with a risk, also where nobody says, or everything."""

    REFUSE = "refuse"
    UNKNOWN = "allow-unknown"
    ALL = "allow-all"


@dataclass(frozen=True, slots=True)
class PixelFinding:
    """The risk of one instance and why."""

    risk: Risk
    reason: str


def pixel_finding(dataset: Dataset, *, has_pixels: bool) -> PixelFinding:
    """What the header says of names in the pixels (Burned In Annotation, or the kind of image)."""
    if not has_pixels:
        return PixelFinding(Risk.NONE, "it has no pixels")
    if _overlay_in_pixels(dataset):
        return PixelFinding(Risk.UNKNOWN, "an overlay lies in unused bits of its pixels")
    said = str(dataset.get("BurnedInAnnotation") or "").strip().upper()
    if said == "YES":
        return PixelFinding(Risk.SAID, "Burned In Annotation is YES")
    if said == "NO":
        return PixelFinding(Risk.NONE, "Burned In Annotation is NO")
    image_type = {word for one in texts_of(dataset.get("ImageType")) for word in re.split(r"[\W_]+", one.upper())}
    if image_type & CAPTURED:
        return PixelFinding(Risk.UNKNOWN, "it is a picture of a screen")
    if str(dataset.get("SOPClassUID")) in FROM_A_DETECTOR and str(dataset.get("ConversionType") or "") == "":
        return PixelFinding(Risk.NONE, "its pixels were computed")
    return PixelFinding(Risk.UNKNOWN, "images of its kind often show names, and its header does not deny it")


def refused(finding: PixelFinding, policy: PixelPolicy) -> bool:
    """Whether an instance with this finding stays out of the export."""
    allowed = {PixelPolicy.REFUSE: {Risk.NONE}, PixelPolicy.UNKNOWN: {Risk.NONE, Risk.UNKNOWN}}
    return policy is not PixelPolicy.ALL and finding.risk not in allowed[policy]


def _overlay_in_pixels(dataset: Dataset) -> bool:
    """Whether a retired overlay is kept in the high bits of Pixel Data (Overlay Data absent, PS3.5 8.1.2)."""
    groups = {tag.group for tag in dataset.keys() if tag.group >> 8 == 0x60}  # noqa: SIM118 - elements stay unread
    return any(
        (group, 0x3000) not in dataset and ((group, 0x0010) in dataset or (group, 0x0102) in dataset)
        for group in groups
    )
