"""What an MR image shows: the magnitude of the signal, or something that no pipeline declares to take."""

from __future__ import annotations

from dicomnode.errors import SeriesUnusable
from dicomnode.source_image import SourceImage

NOT_MAGNITUDE = frozenset({"P", "PHASE", "PHASE MAP", "VELOCITY", "R", "REAL", "I", "IMAGINARY"})
DIFFUSION_WEIGHTED = frozenset({"DIFFUSION", "TRACEW", "TRACE", "DWI"})
"""Words of an MR's ImageType that say diffusion weighted, where no b-value says that it is not (b = 0)."""
MAPS = frozenset(
    {
        "ADC",
        "EADC",
        "FA",
        "RA",
        "COLFA",
        "TENSOR",
        "DIFFUSION_ANISO",
        "CBF",
        "CBV",
        "RCBF",
        "RCBV",
        "RELCBF",
        "RELCBV",
        "MTT",
        "RELMTT",
        "TTP",
        "TMAX",
        "PBP",
        "GBP",
        "KTRANS",
        "KEP",
        "IAUC",
        "T_TEST",
        "Z_SCORE",
        "STD_DEVIATION",
        "TEMPERATURE",
    }
)
"""Words of an MR's ImageType that say a calculated map: what a voxel holds is a quantity, in a unit of its own.

MTT, RCBF, RCBV, TTP, T_TEST, Z_SCORE and STD_DEVIATION are terms of PS3.3 C.8.16.1.4, DIFFUSION_ANISO of C.8.13.5.9;
the others are words that makers write, collected without a conformance statement that confirms them. What ends in MAP
("T1 MAP", "METABOLITE_MAP") is one too. A filter made for the signal would shift such values unseen. A map under a
word that is not listed passes for magnitude.
"""


def undeclared_mr(image: SourceImage) -> SeriesUnusable | None:
    """Why no pipeline declares to take this MR image (M3); None when it may be run, or is no MR."""
    if image.text("Modality") != "MR":
        return None
    words = {word.upper() for word in image.texts("ImageType")[2:]}
    if NOT_MAGNITUDE & words:
        return SeriesUnusable(
            "not-magnitude",
            "the MR holds phase, real or imaginary parts; send the magnitude images as their own series",
        )
    if maps := sorted(word for word in words if word in MAPS or word.endswith("MAP")):
        return SeriesUnusable(
            "calculated-map",
            f"the MR is a calculated map ({', '.join(maps)}), not a signal; "
            "send the magnitude images as their own series",
        )
    weighting = image.number("DiffusionBValue")
    if (weighting or 0) > 0 or (weighting is None and DIFFUSION_WEIGHTED & words):
        return SeriesUnusable("diffusion", "the MR is diffusion weighted, and no pipeline takes that; correct the rule")
    return None
