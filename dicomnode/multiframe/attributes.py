"""Which attributes of an enhanced multi-frame image a single-frame image has, and under which name and term."""

from __future__ import annotations

from collections.abc import Mapping


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


COPIED: Mapping[str, tuple[str, ...]] = {
    macro: _words(keywords)
    for macro, keywords in {
        "PixelMeasuresSequence": "SliceThickness SpacingBetweenSlices PixelSpacing",
        "PlanePositionSequence": "ImagePositionPatient",
        "PlaneOrientationSequence": "ImageOrientationPatient",
        "FrameVOILUTSequence": "WindowCenter WindowWidth WindowCenterWidthExplanation VOILUTFunction",
        "PixelValueTransformationSequence": "RescaleIntercept RescaleSlope RescaleType",
        "FrameAnatomySequence": "AnatomicRegionSequence PrimaryAnatomicStructureSequence",
        "IrradiationEventIdentificationSequence": "IrradiationEventUID",
        "DerivationImageSequence": "DerivationDescription",
        "CardiacSynchronizationSequence": "LowRRValue HighRRValue IntervalsAcquired IntervalsRejected HeartRate",
        "CTAcquisitionDetailsSequence": """DataCollectionDiameter GantryDetectorTilt TableHeight RotationDirection
            RevolutionTime SingleCollimationWidth TotalCollimationWidth""",
        "CTTableDynamicsSequence": "TableSpeed TableFeedPerRotation SpiralPitchFactor",
        "CTGeometrySequence": "DistanceSourceToDetector",
        "CTReconstructionSequence": "ReconstructionDiameter ConvolutionKernel",
        "CTExposureSequence": """ImageAndFluoroscopyAreaDoseProduct WaterEquivalentDiameter
            WaterEquivalentDiameterCalculationMethodCodeSequence ExposureModulationType CTDIvol
            CTDIPhantomTypeCodeSequence""",
        "CTXRayDetailsSequence": """KVP FilterType FocalSpots FilterMaterial CalciumScoringMassFactorPatient
            CalciumScoringMassFactorDevice EnergyWeightingFactor""",
        "CTPositionSequence": "DataCollectionCenterPatient ReconstructionTargetCenterPatient",
        "MRImagingModifierSequence": "PixelBandwidth",
        "MRReceiveCoilSequence": "ReceiveCoilName",
        "MRTransmitCoilSequence": "TransmitCoilName",
        "MRTimingAndRelatedParametersSequence": "RepetitionTime EchoTrainLength FlipAngle",
        "MRAveragesSequence": "NumberOfAverages",
        "MRFOVGeometrySequence": "PercentSampling PercentPhaseFieldOfView InPlanePhaseEncodingDirection",
        "MRDiffusionSequence": "DiffusionBValue DiffusionDirectionality",
        "PETFrameAcquisitionSequence": "GantryDetectorTilt GantryDetectorSlew",
        "PETFrameCorrectionFactorsSequence": """PrimaryPromptsCountsAccumulated SliceSensitivityFactor DecayFactor
            ScatterFractionFactor DeadTimeFactor""",
        "PETReconstructionSequence": "ReconstructionDiameter",
    }.items()
}
"""Attributes of the functional groups that the single-frame objects have at their root under the same keyword."""

ORIGINALS = ("UnassignedSharedConvertedAttributesSequence", "UnassignedPerFrameConvertedAttributesSequence")
"""Where a legacy converted image keeps what its single-frame sources said and no functional group holds."""

FRAME_TYPES = ("CTImageFrameTypeSequence", "MRImageFrameTypeSequence", "PETFrameTypeSequence")

OF_MULTI_FRAME = frozenset(
    _words(
        """SharedFunctionalGroupsSequence PerFrameFunctionalGroupsSequence NumberOfFrames DimensionOrganizationSequence
        DimensionIndexSequence DimensionOrganizationType InstanceNumber ConcatenationUID InConcatenationNumber
        InConcatenationTotalNumber ConcatenationFrameOffsetNumber SOPInstanceUIDOfConcatenationSource
        ExtendedOffsetTable ExtendedOffsetTableLengths"""
    )
)
"""True of the instance as a whole and of none of its frames."""

NEVER_FROM_ORIGINALS = frozenset(
    _words(
        """SpecificCharacterSet SOPClassUID SOPInstanceUID StudyInstanceUID SeriesInstanceUID FrameOfReferenceUID
        PatientID IssuerOfPatientID PatientName PatientBirthDate PatientSex AccessionNumber Modality NumberOfFrames Rows
        Columns BitsAllocated BitsStored HighBit PixelRepresentation SamplesPerPixel PhotometricInterpretation
        PlanarConfiguration PixelData"""
    )
)
"""Who the patient is, which object this is and how its pixels lie: only the instance itself can say."""

CALCULATION_TOKENS: Mapping[str, str] = {
    "MAX_IP": "MIP",
    "MIN_IP": "MINIP",
    "VOLUME_RENDER": "VRT",
    "SURFACE_RENDER": "SSD",
    "MPR": "MPR",
    "CURVED_MPR": "CPR",
}
"""Volume Based Calculation Technique as the words senders use in a single-frame ImageType."""

COMPONENTS: Mapping[str, str] = {"MAGNITUDE": "M", "PHASE": "P", "REAL": "R", "IMAGINARY": "I"}
"""Complex Image Component as value 3 of a single-frame MR ImageType."""

CORRECTED_IMAGE: Mapping[str, str] = {
    "DecayCorrected": "DECY",
    "AttenuationCorrected": "ATTN",
    "ScatterCorrected": "SCAT",
    "DeadTimeCorrected": "DTIM",
    "GantryMotionCorrected": "MOTN",
    "PatientMotionCorrected": "PMOT",
    "CountLossNormalizationCorrected": "CLN",
    "RandomsCorrected": "RAN",
    "NonUniformRadialSamplingCorrected": "RADL",
    "SensitivityCalibrated": "DCAL",
    "DetectorNormalizationCorrection": "NORM",
}
"""The flags of an enhanced PET as terms of CorrectedImage, PS3.3 C.8.9.1.1.6."""

PET_UNITS: Mapping[str, str] = {
    "Bq/ml": "BQML",
    "Bq/mL": "BQML",
    "g/ml{SUVbw}": "GML",
    "{SUVbw}g/ml": "GML",
    "{SUVbw}g/mL": "GML",
    "/cm": "1CM",
    "{counts}": "CNTS",
    "{counts}/s": "CPS",
    "{propcounts}": "PROPCNTS",
    "{propcounts}/s": "PROPCPS",
}
"""UCUM codes of the real world value mapping as terms of Units; the first found of these is taken."""
