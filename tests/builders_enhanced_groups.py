"""The functional groups and root attributes of made-up enhanced CT, MR and PET instances."""

from __future__ import annotations

from typing import Any

from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as DicomSequence

from tests.builders_dicom import code

Groups = dict[str, Dataset]
PET_FLAGS = {
    "DecayCorrected": "YES",
    "AttenuationCorrected": "YES",
    "ScatterCorrected": "YES",
    "DeadTimeCorrected": "YES",
    "RandomsCorrected": "YES",
    "DetectorNormalizationCorrection": "YES",
    "GantryMotionCorrected": "NO",
    "PatientMotionCorrected": "NO",
    "CountLossNormalizationCorrected": "NO",
    "NonUniformRadialSamplingCorrected": "NO",
    "SensitivityCalibrated": "NO",
}


def item(**attributes: Any) -> Dataset:
    """A data set of the given attributes."""
    made = Dataset()
    for keyword, value in attributes.items():
        setattr(made, keyword, value)
    return made


def ct_groups(intercept: float) -> Groups:
    """A CT frame of a spiral scan in HU."""
    return {
        "CTAcquisitionTypeSequence": item(AcquisitionType="SPIRAL", ConstantVolumeFlag="NO", FluoroscopyFlag="NO"),
        "CTAcquisitionDetailsSequence": item(
            RotationDirection="CW",
            RevolutionTime=0.5,
            SingleCollimationWidth=0.6,
            TotalCollimationWidth=19.2,
            TableHeight="150",
            GantryDetectorTilt="0",
            DataCollectionDiameter="500",
        ),
        "CTTableDynamicsSequence": item(TableSpeed=46.0, TableFeedPerRotation=23.0, SpiralPitchFactor=1.2),
        "CTGeometrySequence": item(DistanceSourceToDetector="1000", DistanceSourceToDataCollectionCenter=570.0),
        "CTPositionSequence": item(
            TablePosition=100.0,
            DataCollectionCenterPatient=[0.0, 0.0, 0.0],
            ReconstructionTargetCenterPatient=[0.0, 0.0, 0.0],
        ),
        "CTReconstructionSequence": item(
            ReconstructionAlgorithm="FILTER_BACK_PROJ",
            ConvolutionKernel="B30f",
            ConvolutionKernelGroup="SOFT_TISSUE",
            ReconstructionDiameter="500",
            ReconstructionPixelSpacing=[1.5, 1.25],
            ReconstructionAngle=360.0,
            ImageFilter="NONE",
        ),
        "CTExposureSequence": item(
            ExposureTimeInms=500.0,
            XRayTubeCurrentInmA=200.4,
            ExposureInmAs=100.2,
            ExposureModulationType="NONE",
            CTDIvol=5.0,
            CTDIPhantomTypeCodeSequence=DicomSequence([code("113691", "DCM", "IEC Body Dosimetry Phantom")]),
        ),
        "CTXRayDetailsSequence": item(KVP="120", FocalSpots="0.8", FilterType="FLAT", FilterMaterial="ALUMINUM"),
        "PixelValueTransformationSequence": item(RescaleIntercept=str(intercept), RescaleSlope="1", RescaleType="HU"),
        "IrradiationEventIdentificationSequence": item(IrradiationEventUID="1.2.3.4.5"),
    }


def mr_groups() -> Groups:
    """An MR frame of a spin echo."""
    return {
        "MRTimingAndRelatedParametersSequence": item(
            RepetitionTime="500",
            FlipAngle="90",
            EchoTrainLength="1",
            RFEchoTrainLength=1,
            GradientEchoTrainLength=0,
            GradientOutputType="DB_DT",
            GradientOutput=10.0,
            SpecificAbsorptionRateSequence=DicomSequence(
                [item(SpecificAbsorptionRateDefinition="IEC_WHOLE_BODY", SpecificAbsorptionRateValue=0.5)]
            ),
            OperatingModeSequence=DicomSequence(
                [
                    item(OperatingModeType=kind, OperatingMode="IEC_NORMAL")
                    for kind in ("STATIC FIELD", "RF", "GRADIENT")
                ]
            ),
        ),
        "MREchoSequence": item(EffectiveEchoTime=12.5),
        "MRModifierSequence": item(
            InversionRecovery="NO",
            FlowCompensation="NONE",
            Spoiling="RF",
            T2Preparation="NO",
            SpectrallySelectedExcitation="NONE",
            SpatialPresaturation="NONE",
            PartialFourier="NO",
            ParallelAcquisition="NO",
        ),
        "MRImagingModifierSequence": item(
            MagnetizationTransfer="NONE",
            BloodSignalNulling="NO",
            Tagging="NONE",
            TransmitterFrequency=63.9,
            PixelBandwidth="180",
        ),
        "MRFOVGeometrySequence": item(
            InPlanePhaseEncodingDirection="ROW",
            MRAcquisitionFrequencyEncodingSteps=32,
            MRAcquisitionPhaseEncodingStepsInPlane=32,
            PercentSampling="100",
            PercentPhaseFieldOfView="100",
        ),
        "MRReceiveCoilSequence": item(
            ReceiveCoilName="Body", ReceiveCoilManufacturerName="", ReceiveCoilType="BODY", QuadratureReceiveCoil="YES"
        ),
        "MRTransmitCoilSequence": item(
            TransmitCoilName="Body", TransmitCoilManufacturerName="", TransmitCoilType="BODY"
        ),
        "MRAveragesSequence": item(NumberOfAverages="2"),
        "PixelValueTransformationSequence": item(RescaleIntercept="0", RescaleSlope="1", RescaleType="US"),
    }


def pet_groups(slope: float) -> Groups:
    """A PET frame in Bq/ml: stored value times `slope`."""
    mapping = item(
        LUTExplanation="activity",
        LUTLabel="BQML",
        MeasurementUnitsCodeSequence=DicomSequence([code("Bq/ml", "UCUM", "Becquerels/milliliter")]),
        RealWorldValueSlope=slope,
        RealWorldValueIntercept=0.0,
    )
    mapping.add_new("RealWorldValueFirstValueMapped", "SS", -32768)
    mapping.add_new("RealWorldValueLastValueMapped", "SS", 32767)
    return {
        "PixelValueTransformationSequence": item(RescaleIntercept="0", RescaleSlope="1", RescaleType="US"),
        "RealWorldValueMappingSequence": mapping,
        "RadiopharmaceuticalUsageSequence": item(RadiopharmaceuticalAgentNumber=1),
        "PETFrameCorrectionFactorsSequence": item(
            SliceSensitivityFactor="1",
            DecayFactor="1.01",
            PrimaryPromptsCountsAccumulated="100",
            ScatterFractionFactor="0.2",
            DeadTimeFactor="1",
        ),
        "PETReconstructionSequence": item(
            ReconstructionAlgorithm="MLEM",
            IterativeReconstructionMethod="YES",
            NumberOfIterations=3,
            NumberOfSubsets=10,
            ReconstructionType="3D",
            ReconstructionDiameter="500",
        ),
        "PETPositionSequence": item(
            TablePosition=100.0,
            DataCollectionCenterPatient=[0.0, 0.0, 0.0],
            ReconstructionTargetCenterPatient=[0.0, 0.0, 0.0],
        ),
        "PETDetectorMotionDetailsSequence": item(RotationDirection="CW", RevolutionTime=1.0),
        "PETFrameAcquisitionSequence": item(
            TableHeight="150", GantryDetectorTilt="0", GantryDetectorSlew="0", DataCollectionDiameter="500"
        ),
    }


def fill_mr_root(dataset: Dataset) -> None:
    """What an enhanced MR says of all its frames."""
    dataset.ComplexImageComponent, dataset.AcquisitionContrast = "MAGNITUDE", "T1"
    dataset.MagneticFieldStrength, dataset.ResonantNucleus, dataset.KSpaceFiltering = "1.5", "1H", "NONE"
    dataset.ApplicableSafetyStandardAgency = "IEC"
    dataset.MRAcquisitionType, dataset.EchoPulseSequence, dataset.PulseSequenceName = "2D", "SPIN", "se"
    dataset.MultipleSpinEcho, dataset.MultiPlanarExcitation, dataset.PhaseContrast = "NO", "NO", "NO"
    dataset.TimeOfFlightContrast = "NO"
    dataset.SteadyStatePulseSequence, dataset.EchoPlanarPulseSequence = "NONE", "NO"
    dataset.SaturationRecovery, dataset.SpectrallySelectedSuppression = "NO", "FAT"
    dataset.OversamplingPhase, dataset.GeometryOfKSpaceTraversal = "NONE", "RECTILINEAR"
    dataset.SegmentedKSpaceTraversal, dataset.RectilinearPhaseEncodeReordering = "SINGLE", "LINEAR"
    dataset.NumberOfKSpaceTrajectories = 1


def fill_pet_root(dataset: Dataset) -> None:
    """What an enhanced PET says of all its frames: F-18, corrected for all that usually is."""
    for flag, value in PET_FLAGS.items():
        setattr(dataset, flag, value)
    dataset.CountsSource, dataset.CollimatorType = "EMISSION", "NONE"
    dataset.RandomsCorrectionMethod, dataset.ScatterCorrectionMethod = "DLYD", "Model-based"
    dataset.AttenuationCorrectionSource, dataset.AttenuationCorrectionTemporalRelationship = "CT", "CONCURRENT"
    dataset.DecayCorrectionDateTime = "20240229102010"
    dataset.TableMotion, dataset.TypeOfDetectorMotion = "STATIC", "STATIONARY"
    dataset.DetectorGeometry = "CYLINDRICAL_RING"
    dataset.AcquisitionStartCondition, dataset.AcquisitionTerminationCondition = "MANUAL", "TIME"
    dataset.TerminationTimeThreshold, dataset.CoincidenceWindowWidth = 120.0, 4.0
    dataset.EnergyWindowRangeSequence = DicomSequence(
        [item(EnergyWindowLowerLimit="435", EnergyWindowUpperLimit="585")]
    )
    dataset.TimeOfFlightInformationUsed = "FALSE"
    dataset.TransverseDetectorSeparation, dataset.AxialDetectorDimension = 820.0, 260.0
    dataset.ViewCodeSequence = DicomSequence([code("62824007", "SCT", "Transverse")])
    dataset.SliceProgressionDirection = "BASE_TO_APEX"
    dataset.RadiopharmaceuticalInformationSequence = DicomSequence(
        [
            item(
                RadiopharmaceuticalAgentNumber=1,
                RadionuclideCodeSequence=DicomSequence([code("77004003", "SCT", "^18^Fluorine")]),
                AdministrationRouteCodeSequence=DicomSequence([code("47625008", "SCT", "Intravenous route")]),
                RadiopharmaceuticalCodeSequence=DicomSequence([code("35321007", "SCT", "Fluorodeoxyglucose F^18^")]),
                RadiopharmaceuticalStartDateTime="20240229092000",
                RadionuclideTotalDose="350000000",
                RadionuclideHalfLife="6586.2",
                RadionuclidePositronFraction="0.97",
            )
        ]
    )
    supine = DicomSequence([code("40199007", "SCT", "supine")])
    dataset.PatientOrientationCodeSequence = DicomSequence(
        [code("102538003", "SCT", "recumbent", PatientOrientationModifierCodeSequence=supine)]
    )
    dataset.PatientEquipmentRelationshipCodeSequence = DicomSequence([code("102540008", "SCT", "headfirst")])
