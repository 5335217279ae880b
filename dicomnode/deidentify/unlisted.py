"""What becomes of elements that Table E.1-1 does not name: numbers stay, words only where somebody judged them safe.

The table knows where the standard's authors expect names. A hospital writes them elsewhere too, so words stay only in
attributes that hold a device's own terms; an element that nobody can judge does not stay.
"""

from __future__ import annotations

from collections.abc import Set

from pydicom.datadict import dictionary_has_tag, keyword_for_tag

from dicomnode.deidentify.profile import DATES, Action, Option
from dicomnode.deidentify.values import words

SAFE_WORDS = words(
    """
    Manufacturer ManufacturerModelName SoftwareVersions ManufacturerModelVersion CodeValue CodeMeaning LongCodeValue
    URNCodeValue ExtendedCodeValue CodingSchemeDesignator CodingSchemeVersion CodingSchemeRegistry CodingSchemeName
    MappingResourceName DeidentificationMethod ConvolutionKernel FilterType FilterMaterial CollimatorGridName
    SequenceName PulseSequenceName ImagedNucleus ReceiveCoilName TransmitCoilName ReceiveCoilManufacturerName
    TransmitCoilManufacturerName MultiCoilElementName MultiCoilConfiguration AcquisitionMode DoseModeName PhosphorType
    PlateType TypeOfFilters TriggerSourceOrType CardiacFramingType PVCRejection Radiopharmaceutical Radionuclide
    RadiopharmaceuticalRoute ContrastBolusRoute InterventionDrugName AttenuationCorrectionMethod ReconstructionMethod
    ScatterCorrectionMethod DetectorLinesOfResponseUsed DetectorManufacturerName DetectorManufacturerModelName
    SecondaryCaptureDeviceManufacturer SecondaryCaptureDeviceManufacturerModelName
    SecondaryCaptureDeviceSoftwareVersions DigitalImageFormatAcquired VideoImageFormatAcquired RescaleType
    ModalityLUTType TransducerData ProcessingFunction AcquisitionDeviceProcessingCode
    ApplicableSafetyStandardDescription ASLTechniqueDescription ASLCrusherDescription ASLBolusCutoffTechnique
    ImageFilter ImageFilterDescription StackID DimensionIndexPrivateCreator FunctionalGroupPrivateCreator
    DimensionDescriptionLabel SegmentLabel SegmentAlgorithmName AlgorithmName AlgorithmVersion AlgorithmSource
    ApplicationName ApplicationVersion ApplicationManufacturer MIMETypeOfEncapsulatedDocument LUTLabel LUTExplanation
    WindowCenterWidthExplanation PatientAdditionalPosition PositionReferenceIndicator TargetPositionReferenceIndicator
    RespiratorySignalSourceID TimeSource EXIFVersion SpectralSensitivity SourceIsotopeName
    FluenceModeID IOLManufacturer FontName CSSFontName OpticalPathIdentifier
    ReferencedOpticalPathIdentifier EnergyWindowName ViewName StageName HistogramExplanation
    SelectorSequencePointerPrivateCreator SelectorAttributePrivateCreator PrivateCreatorReference
    OutputPower ImageDisplayFormat
    """
)
"""Attributes of LO, SH, ST, LT, UC, UR and UT whose words are a device's or the standard's own."""
SAFE_BYTES = words("PixelData ICCProfile WaveformData CoordinateSystemAxisValues FillPattern LUTData")
"""Of OB and UN; OW, OF, OD, OL and OV are arrays of numbers."""
_WORDS = words("LO SH ST LT UC UT")
_NUMBERS = words("AT CS DS IS FD FL SL SS SV UL US UV OW OF OD OL OV AS SQ") | {
    "US or SS", "US or OW", "US or SS or OW", "OB or OW",
}  # fmt: skip


def unlisted_action(tag: int, vr: str, options: Set[Option]) -> Action:
    """What is done to an element without a row; what holds the element's value is looked at besides."""
    if not dictionary_has_tag(tag) or (tag >> 16) <= 4 or (tag & 0xFFFF) == 0:
        return Action.REMOVE
    keyword = keyword_for_tag(tag)
    if vr in DATES:
        if Option.FULL_DATES in options:
            return Action.KEEP
        return Action.CLEAN if Option.MODIFIED_DATES in options else Action.EMPTY
    if vr == "UI":
        return Action.KEEP if Option.UIDS in options else Action.UID
    if vr == "PN":
        return Action.EMPTY
    if vr in _NUMBERS or keyword in SAFE_WORDS or (vr in ("OB", "UN") and keyword in SAFE_BYTES):
        return Action.KEEP
    if vr in _WORDS:
        return Action.CLEAN if Option.DESCRIPTORS in options else Action.DUMMY
    return Action.REMOVE
