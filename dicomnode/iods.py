"""Per image object (CT, PT, MR): which attributes are kept, which are removed, which are made anew, as data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache, lru_cache

from pydicom.datadict import tag_for_keyword
from pydicom.uid import CTImageStorage, MRImageStorage, PositronEmissionTomographyImageStorage

from dicomnode.iod_tables import tables

SOP_CLASS_OF: Mapping[str, str] = {
    "CT": str(CTImageStorage),
    "PT": str(PositronEmissionTomographyImageStorage),
    "MR": str(MRImageStorage),
}
MODALITY_OF: Mapping[str, str] = {uid: modality for modality, uid in SOP_CLASS_OF.items()}
EQUIPMENT_PURPOSES = frozenset({*((str(code), "DCM") for code in range(109100, 109107)), ("Newcode1", "99IHE")}) | {
    (code, "DCM") for code in ("DOCD", "FILMD", "MEDIM", "VIDD")
}
"""CID 7005, and the purpose that IHE AIR writes for an algorithm; code value and scheme."""


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


MR_EXTENDED = _words(
    """RescaleIntercept RescaleSlope RescaleType DiffusionBValue DiffusionDirectionality DiffusionGradientOrientation
    DiffusionBMatrixSequence"""
)
"""What senders add to the MR Image object (Standard Extended SOP Class); an MR made of it says it again (M1, M2)."""

MADE = MR_EXTENDED | _words(
    """SOPClassUID SOPInstanceUID SeriesInstanceUID Modality ImageType SeriesNumber SeriesDescription InstanceNumber
    ContentDate ContentTime InstanceCreationDate InstanceCreationTime Manufacturer ManufacturerModelName StationName
    DeviceSerialNumber DeviceUID SoftwareVersions ContributingEquipmentSequence DerivationDescription
    DerivationCodeSequence SourceImageSequence ReferencedSeriesSequence RelatedSeriesSequence ContentQualification
    SyntheticData BurnedInAnnotation ImageComments CodingSchemeIdentificationSequence SamplesPerPixel
    PhotometricInterpretation BitsAllocated BitsStored HighBit PixelRepresentation PixelData UDISequence
    PixelPaddingValue NumberOfSlices ImageIndex"""
)
"""Written for every derived image from the job, the pipeline and the result, not copied (but for MR_EXTENDED in MR)."""

REMOVED = _words(
    """SmallestImagePixelValue LargestImagePixelValue SmallestPixelValueInSeries LargestPixelValueInSeries
    IconImageSequence PixelPaddingValue PixelPaddingRangeLimit WaterEquivalentDiameter
    WaterEquivalentDiameterCalculationMethodCodeSequence CalciumScoringMassFactorPatient
    CalciumScoringMassFactorDevice RealWorldValueMappingSequence DigitalSignaturesSequence MACParametersSequence
    ReferencedPerformedProcedureStepSequence PerformedProcedureStepStartDate PerformedProcedureStepStartTime
    PerformedProcedureStepEndDate PerformedProcedureStepEndTime PerformedProcedureStepID
    PerformedProcedureStepDescription PerformedProtocolCodeSequence CommentsOnThePerformedProcedureStep OperatorsName
    OperatorIdentificationSequence PerformingPhysicianName PerformingPhysicianIdentificationSequence
    ReferencedImageSequence ReferencedInstanceSequence SourceInstanceSequence EncryptedAttributesSequence
    OriginalAttributesSequence ConversionSourceAttributesSequence InstanceCoercionDateTime QueryRetrieveView
    SOPInstanceStatus SOPAuthorizationDateTime SOPAuthorizationComment AuthorizationEquipmentCertificationNumber
    PrivateDataElementCharacteristicsSequence ExtendedOffsetTable ExtendedOffsetTableLengths PixelDataProviderURL
    RedPaletteColorLookupTableDescriptor GreenPaletteColorLookupTableDescriptor BluePaletteColorLookupTableDescriptor
    RedPaletteColorLookupTableData GreenPaletteColorLookupTableData BluePaletteColorLookupTableData ICCProfile
    ColorSpace PixelAspectRatio PlanarConfiguration VOILUTSequence SeriesDescriptionCodeSequence InstanceCreatorUID
    RelatedGeneralSOPClassUID OriginalSpecializedSOPClassUID PresentationLUTShape ImagesInAcquisition
    InstanceOriginStatus BarcodeValue HL7StructuredDocumentReferenceSequence ReferencedDefinedProtocolSequence
    ReferencedPerformedProtocolSequence StudiesContainingOtherReferencedInstancesSequence GantryID UDISequence
    ManufacturerDeviceClassUID SpatialResolution DateOfLastCalibration TimeOfLastCalibration DateOfManufacture
    DateOfInstallation InstitutionalDepartmentTypeCodeSequence"""
)
"""True of the source's pixels, file, scanner or procedure step and of nothing derived from it (C25)."""

CHANGED_MODALITY_MODULES = _words(
    """patient clinical-trial-subject general-study patient-study clinical-trial-study general-series
    clinical-trial-series frame-of-reference general-equipment general-acquisition general-image image-plane
    image-pixel sop-common"""
)
"""The modules whose attributes stay true when a PET or an MR becomes a CT (T3)."""

CHANGED_MODALITY_REMOVED = frozenset({"IrradiationEventUID", "AcquisitionNumber", "PatientPosition"})
SERIES_LEVELS = frozenset({"Patient", "Study", "Series", "Frame of Reference", "Equipment"})
LEFT_OUT_MODULES = frozenset({"overlay-plane"})

CONTRIBUTING_EQUIPMENT = _words(
    """InstitutionName InstitutionAddress InstitutionalDepartmentName StationName ManufacturerModelName
    DeviceSerialNumber DeviceUID UDISequence SoftwareVersions SpatialResolution DateOfLastCalibration
    TimeOfLastCalibration"""
)
"""What is said of the source's own equipment beside its Manufacturer (PS3.3 C.12.1.1.5)."""

HISTORY = _words("Manufacturer ContributingEquipmentSequence DerivationCodeSequence CodingSchemeIdentificationSequence")
"""What we write anew around words of the source."""

EARLIER_EDITIONS = frozenset({"EthnicGroup", "IssuerOfAdmissionID", "OtherPatientIDs"})
"""Retired from the Patient and Patient Study modules, but in a study that has them they belong to the patient (C2)."""

UNPAIRED_BODY_PARTS = _words(
    """ABDOMEN ABDOMENPELVIS AORTA BACK BLADDER BRAIN CEREBELLUM CERVIX CHEST CHESTABDOMEN CHESTABDPELVIS CIRCLEOFWILLIS
    COCCYX COLON CORONARYARTERY CSPINE CTSPINE DUODENUM ESOPHAGUS FACE GALLBLADDER HEAD HEADNECK HEART ILEUM ILIUM JAW
    JEJUNUM LARYNX LIVER LSPINE LSSPINE MAXILLA MEDIASTINUM MOUTH NECK NECKCHEST NECKCHESTABDOMEN NECKCHESTABDPELV NOSE
    PANCREAS PELVIS PENIS PHARYNX PROSTATE RECTUM SCALP SKULL SPINE SPLEEN SSPINE STERNUM STOMACH THYMUS THYROID
    TLSPINE TONGUE TRACHEA TSPINE URETER URETHRA UTERUS VAGINA VULVA WHOLEBODY"""
)
"""Body parts that dciodvfy holds for unpaired; for any other, known or not, it wants Laterality, if need be empty."""

PET_CONDITIONS: Mapping[str, tuple[str, ...]] = {
    "NumberOfTimeSlices": ("DYNAMIC",),
    "NumberOfRRIntervals": ("GATED",),
    "NumberOfTimeSlots": ("GATED",),
    "FrameTime": ("GATED",),
    "TriggerTime": ("GATED",),
}
"""Type 1C attributes of PET and the Series Type (value 1) without which they may not be there."""

PHILIPS_PET_CREATOR = "Philips PET Private Group"
PHILIPS_PET_ELEMENTS = (0x00, 0x09)
"""SUV and activity concentration scale factors (7053,xx00) and (7053,xx09): the only private elements kept (P6)."""


def tags(keywords: Iterable[str]) -> frozenset[int]:
    """The tags of keywords; every one of them must be in the dictionary."""
    return _tags(frozenset(keywords))


@lru_cache(maxsize=1024)
def _tags(keywords: frozenset[str]) -> frozenset[int]:
    found = {keyword: tag_for_keyword(keyword) for keyword in keywords}
    unknown = sorted(keyword for keyword, tag in found.items() if tag is None)
    if unknown:
        raise KeyError(f"not in the DICOM dictionary: {', '.join(unknown)}")
    return frozenset(tag for tag in found.values() if tag is not None)


def _known_tags(keywords: Iterable[str]) -> frozenset[int]:
    """The tags of those keywords that this pydicom's dictionary has: the tables are of a later edition."""
    return frozenset(tag for tag in map(tag_for_keyword, keywords) if tag is not None)


@cache
def kept_tags(source_modality: str, target_modality: str) -> tuple[frozenset[int], frozenset[int]]:
    """What is copied from the source: attributes of the series as a whole, and those of each single image (C26)."""
    of_series: set[str] = set()
    of_image: set[str] = set()
    for module, (_, entity) in tables()["iods"][target_modality].items():
        if module in LEFT_OUT_MODULES:
            continue
        if source_modality != target_modality and module not in CHANGED_MODALITY_MODULES:
            continue
        (of_series if entity in SERIES_LEVELS else of_image).update(tables()["modules"][module])
    dropped = MADE | REMOVED | (CHANGED_MODALITY_REMOVED if source_modality != target_modality else frozenset())
    if target_modality != "PT":
        dropped = dropped | {"SeriesDate", "SeriesTime"}
    series_tags = _known_tags((of_series | EARLIER_EDITIONS) - dropped)
    return series_tags, _known_tags(of_image - dropped) - series_tags


@cache
def type_two_tags(target_modality: str) -> frozenset[int]:
    """Attributes that the object's mandatory modules want present, if need be empty."""
    modules = [module for module, (usage, _) in tables()["iods"][target_modality].items() if usage == "M"]
    wanted = {name for module in modules for name, kind in tables()["modules"][module].items() if kind == "2"}
    return _known_tags(wanted)


@cache
def optional_tags(target_modality: str) -> frozenset[int]:
    """Attributes that are never present and empty: conditional ones that need a value when they are there."""
    of_modules = [tables()["modules"][module] for module in tables()["iods"][target_modality]]
    kinds: dict[str, set[str]] = {}
    for attributes in of_modules:
        for name, kind in attributes.items():
            kinds.setdefault(name, set()).add(kind)
    return _known_tags(name for name, types in kinds.items() if types == {"1C"})


def is_unpaired(body_part: str) -> bool:
    """Whether Laterality must not be said of this Body Part Examined, not even as unknown."""
    return body_part in UNPAIRED_BODY_PARTS
