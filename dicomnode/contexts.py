"""The SOP classes and transfer syntaxes we accept and offer: one list for SCP, SCU and conformance."""

from __future__ import annotations

from collections.abc import Iterable

from pydicom.uid import UID
from pynetdicom import build_context
from pynetdicom.presentation import PresentationContext

VERIFICATION = "1.2.840.10008.1.1"
STORAGE_COMMITMENT = "1.2.840.10008.1.20.1"
STORAGE_COMMITMENT_INSTANCE = "1.2.840.10008.1.20.1.1"
"""The Push Model and its well-known instance (PS3.4 J.3.5)."""
_STORAGE = "1.2.840.10008.5.1.4.1.1."

ACCEPTED_STORAGE: tuple[str, ...] = tuple(
    _STORAGE + suffix
    for suffix in (
        "2",  # CT
        "2.1",  # Enhanced CT
        "2.2",  # Legacy Converted Enhanced CT
        "2.3",  # CT - For Processing (Supplement 252)
        "2.4",  # Enhanced CT - For Processing
        "2.5",  # Legacy Converted Enhanced CT - For Processing
        "128",  # PET
        "128.1",  # Legacy Converted Enhanced PET
        "130",  # Enhanced PET
        "4",  # MR
        "4.1",  # Enhanced MR
        "4.2",  # MR Spectroscopy
        "4.3",  # Enhanced MR Color
        "4.4",  # Legacy Converted Enhanced MR
        "7",  # Secondary Capture
        "7.1",  # Multi-frame Single Bit Secondary Capture
        "7.2",  # Multi-frame Grayscale Byte Secondary Capture
        "7.3",  # Multi-frame Grayscale Word Secondary Capture
        "7.4",  # Multi-frame True Color Secondary Capture
        "66",  # Raw Data
        "66.1",  # Spatial Registration
        "66.2",  # Spatial Fiducials
        "66.3",  # Deformable Spatial Registration
        "66.4",  # Segmentation
        "66.5",  # Surface Segmentation
        "66.7",  # Label Map Segmentation
        "67",  # Real World Value Mapping
        "30",  # Parametric Map
        "88.11",  # Basic Text SR
        "88.22",  # Enhanced SR
        "88.33",  # Comprehensive SR
        "88.34",  # Comprehensive 3D SR
        "88.35",  # Extensible SR
        "88.40",  # Procedure Log
        "88.50",  # Mammography CAD SR
        "88.59",  # Key Object Selection
        "88.65",  # Chest CAD SR
        "88.67",  # X-Ray Radiation Dose SR
        "88.68",  # Radiopharmaceutical Radiation Dose SR
        "88.69",  # Colon CAD SR
        "88.70",  # Implantation Plan SR
        "88.71",  # Acquisition Context SR
        "88.72",  # Simplified Adult Echo SR
        "88.73",  # Patient Radiation Dose SR
        "88.74",  # Planned Imaging Agent Administration SR
        "88.75",  # Performed Imaging Agent Administration SR
        "88.76",  # Enhanced X-Ray Radiation Dose SR
        "11.1",  # Grayscale Softcopy Presentation State
        "11.2",  # Color Softcopy Presentation State
        "11.3",  # Pseudo-Color Softcopy Presentation State
        "11.4",  # Blending Softcopy Presentation State
        "11.6",  # Grayscale Planar MPR Volumetric Presentation State
        "11.7",  # Compositing Planar MPR Volumetric Presentation State
        "11.8",  # Advanced Blending Presentation State
        "11.9",  # Volume Rendering Volumetric Presentation State
        "11.10",  # Segmented Volume Rendering Volumetric Presentation State
        "11.11",  # Multiple Volume Rendering Volumetric Presentation State
        "11.12",  # Variable Modality LUT Softcopy Presentation State
        "481.1",  # RT Image
        "481.2",  # RT Dose
        "481.3",  # RT Structure Set
        "481.4",  # RT Beams Treatment Record
        "481.5",  # RT Plan
        "481.6",  # RT Brachy Treatment Record
        "481.7",  # RT Treatment Summary Record
        "481.8",  # RT Ion Plan
        "481.9",  # RT Ion Beams Treatment Record
        "481.10",  # RT Physician Intent
        "481.11",  # RT Segment Annotation
        "481.12",  # RT Radiation Set
        "481.13",  # C-Arm Photon-Electron Radiation
        "481.14",  # Tomotherapeutic Radiation
        "481.15",  # Robotic-Arm Radiation
        "481.16",  # RT Radiation Record Set
        "481.17",  # RT Radiation Salvage Record
        "481.18",  # Tomotherapeutic Radiation Record
        "481.19",  # C-Arm Photon-Electron Radiation Record
        "481.20",  # Robotic Radiation Record
        "481.21",  # RT Radiation Set Delivery Instruction
        "481.22",  # RT Treatment Preparation
        "481.23",  # Enhanced RT Image
        "481.24",  # Enhanced Continuous RT Image
        "481.25",  # RT Patient Position Acquisition Instruction
    )
)
"""Storage SOP classes taken from peers (PS3.4 B.5): CT, PET, MR and what stands beside them in a study."""

WITH_PIXELS = frozenset(
    _STORAGE + suffix
    for suffix in (
        *("2", "2.1", "2.2", "2.3", "2.4", "2.5", "128", "128.1", "130", "4", "4.1", "4.3", "4.4"),
        *("7", "7.1", "7.2", "7.3", "7.4", "66.4", "66.7", "30", "481.1", "481.2", "481.23", "481.24"),
    )
)
"""Those whose instances can hold pixels that an encoder takes: for them compressed transfer syntaxes are offered."""

TRANSFER_SYNTAXES: tuple[str, ...] = (
    "1.2.840.10008.1.2.1",  # Explicit VR Little Endian
    "1.2.840.10008.1.2",  # Implicit VR Little Endian
    "1.2.840.10008.1.2.2",  # Explicit VR Big Endian
    "1.2.840.10008.1.2.1.99",  # Deflated Explicit VR Little Endian
    "1.2.840.10008.1.2.5",  # RLE Lossless
    "1.2.840.10008.1.2.4.57",  # JPEG Lossless
    "1.2.840.10008.1.2.4.70",  # JPEG Lossless SV1
    "1.2.840.10008.1.2.4.80",  # JPEG-LS Lossless
    "1.2.840.10008.1.2.4.90",  # JPEG 2000 Lossless
    "1.2.840.10008.1.2.4.92",  # JPEG 2000 Part 2 Lossless
    "1.2.840.10008.1.2.4.201",  # HTJ2K Lossless
    "1.2.840.10008.1.2.4.202",  # HTJ2K Lossless RPCL
    "1.2.840.10008.1.2.4.50",  # JPEG Baseline
    "1.2.840.10008.1.2.4.51",  # JPEG Extended
    "1.2.840.10008.1.2.4.81",  # JPEG-LS Near-Lossless
    "1.2.840.10008.1.2.4.91",  # JPEG 2000
    "1.2.840.10008.1.2.4.93",  # JPEG 2000 Part 2
    "1.2.840.10008.1.2.4.203",  # HTJ2K
)
"""Every transfer syntax an instance may be stored in; it is kept as it was received."""

UNCOMPRESSED: tuple[str, ...] = TRANSFER_SYNTAXES[:2]
"""Explicit and Implicit VR Little Endian; every peer takes the second (PS3.5 10.1)."""

LOSSLESS_OF = {
    "jpeg-ls": "1.2.840.10008.1.2.4.80",
    "jpeg-2000": "1.2.840.10008.1.2.4.90",
    "rle": "1.2.840.10008.1.2.5",
}
"""A peer's wish for compression -> the lossless transfer syntax we encode for it."""

MOST_CONTEXTS = 128
"""PS3.8 9.3.2.2: presentation context IDs are the odd numbers from 1 to 255."""


def accepted_contexts() -> list[PresentationContext]:
    """What an association acceptor of ours accepts: C-ECHO, and C-STORE of everything listed here.

    In C-STORE we take both roles: who asks by C-GET is sent instances on the association it opened (PS3.7 D.3.3.4).
    """
    echo = build_context(VERIFICATION, list(TRANSFER_SYNTAXES[:3]))
    stores = [build_context(sop_class, list(TRANSFER_SYNTAXES)) for sop_class in ACCEPTED_STORAGE]
    for store in stores:
        store.scu_role = store.scp_role = True
    return [echo, *stores]


def commitment_context() -> PresentationContext:
    """Storage Commitment as we accept it: who calls asks us, or reports in the provider's role (PS3.7 D.3.3.4)."""
    context = build_context(STORAGE_COMMITMENT, list(UNCOMPRESSED))
    context.scu_role = context.scp_role = True
    return context


def wanted_syntaxes(stored: str, *, compressible: bool, compression: str = "none") -> tuple[str, ...]:
    """The transfer syntaxes in which an instance stored in one may leave, the most wanted first; all are lossless.

    As it is stored, else uncompressed, else compressed where its pixels allow; a peer's wish for compression comes
    before that. What is stored compressed is sent as it is or decoded, never compressed anew.
    """
    plain = (stored, *(syntax for syntax in UNCOMPRESSED if syntax != stored))
    if UID(stored).is_encapsulated or not compressible:
        return plain
    wish = tuple(syntax for name, syntax in LOSSLESS_OF.items() if name == compression)
    return wish + plain + tuple(syntax for syntax in LOSSLESS_OF.values() if syntax not in wish)


def offered_contexts(pairs: Iterable[tuple[str, str]]) -> list[PresentationContext]:
    """One context for each (SOP class, transfer syntax), so that the peer's choice is explicit; in a fixed order.

    The order is that of TRANSFER_SYNTAXES: uncompressed ones come first.
    Raises ValueError when there are more than one association can offer; send in several associations then.
    """
    place = {syntax: index for index, syntax in enumerate(TRANSFER_SYNTAXES)}
    wanted = sorted(set(pairs), key=lambda pair: (pair[0], place.get(pair[1], len(place)), pair[1]))
    if len(wanted) > MOST_CONTEXTS:
        raise ValueError(f"{len(wanted)} presentation contexts do not fit one association (at most {MOST_CONTEXTS})")
    return [build_context(sop_class, transfer_syntax) for sop_class, transfer_syntax in wanted]
