"""How each attribute that is not simply copied into a derived image gets its value, as the statement says it."""

from __future__ import annotations

from collections.abc import Mapping

JOB_MOMENT = "when the job was made, in the source's time zone where it declares one, else in the node's"

MADE: Mapping[str, str] = {
    "SOPClassUID": "CT, PET or MR Image Storage, by the result's modality",
    "SOPInstanceUID": "from deployment, series and source instance: the same work gives the same UID",
    "SeriesInstanceUID": "from deployment, pipeline, version, weights, settings, generation and the used instances",
    "Modality": "the result's: CT, PT or MR",
    "ImageType": "DERIVED, then by object: CT SECONDARY, AXIAL and an empty value 4; PET PRIMARY and an empty value 3; "
    "MR SECONDARY and the source's value 3; then the tokens of earlier steps and the pipeline's",
    "SeriesNumber": "100 x the source's + the pipeline's ordinal where that fits, else of a range of its own; further "
    "stacks of a source have three digits more",
    "SeriesDescription": "the source's, where it is ASCII, cut, then the pipeline's label and (AI)",
    "InstanceNumber": "the source's where all used images have one of their own, else 1 to N along the normal",
    "ContentDate": JOB_MOMENT,
    "ContentTime": JOB_MOMENT,
    "InstanceCreationDate": JOB_MOMENT,
    "InstanceCreationTime": JOB_MOMENT,
    "Manufacturer": "dicom-ai-node",
    "ManufacturerModelName": "dicom-ai-node",
    "StationName": "`station_name` of node.toml; absent where that is empty",
    "DeviceSerialNumber": "the deployment's UUID",
    "DeviceUID": "from the deployment's UUID",
    "SoftwareVersions": "the node's version, and the pipeline with its version",
    "UDISequence": "`unique_device_identifier` of node.toml; absent where that is empty",
    "ContributingEquipmentSequence": "the source's items, then the source's own equipment (acquisition or processing), "
    "then the pipeline with method, weights, settings and job",
    "DerivationDescription": "the source's where it is ASCII, then pipeline, version, method and purpose",
    "DerivationCodeSequence": "the source's items, then the pipeline's code of 99DCMNODE",
    "CodingSchemeIdentificationSequence": "the source's items, and 99DCMNODE",
    "SourceImageSequence": "the source image of the same position, then its neighbours where the result is made of "
    "them; SpatialLocationsPreserved YES; ReferencedFrameNumber for multi-frame sources",
    "ReferencedSeriesSequence": "exactly the instances of SourceImageSequence",
    "RelatedSeriesSequence": "the source series, and what was read beside it; of a PET also the CT that corrected its "
    "attenuation, where named",
    "ContentQualification": "`content_qualification` of node.toml, but RESEARCH where a source image says RESEARCH",
    "SyntheticData": "YES where the pipeline makes an image artificially or a source image says YES; else absent",
    "BurnedInAnnotation": "YES where the source image says YES, else NO",
    "ImageComments": "that software made it, for what use it is, and whether this slice was passed through unchanged",
    "SamplesPerPixel": "1",
    "BitsAllocated": "16",
    "BitsStored": "16; 12 for CT with `ct_pixels = \"unsigned-12\"`",
    "HighBit": "BitsStored - 1",
    "PixelRepresentation": "1 (signed) for CT and PET, 0 with `ct_pixels = \"unsigned-12\"`; the source's for MR",
    "PixelData": "the result, native, little endian",
    "Laterality": "the source's; else empty where the body part may have sides, absent where it has none",
    "WindowCenter": "the source's where it can be shown again; else CT 40, PET half the largest value, MR none",
    "WindowWidth": "as WindowCenter; else CT 400, PET the largest value, MR none",
    "WindowCenterWidthExplanation": "the source's, with its windows only",
    "VOILUTFunction": "the source's, with its windows only",
    "SpecificCharacterSet": "the source's; where it has none and copied texts are not ASCII, the peer's "
    "`declare_character_set` of node.toml",
}  # fmt: skip
"""Of every derived image, whatever its modality."""

MADE_OF: Mapping[str, Mapping[str, str]] = {
    "PhotometricInterpretation": {"CT": "MONOCHROME2", "PT": "MONOCHROME2", "MR": "the source's"},
    "RescaleSlope": {
        "CT": "1",
        "PT": "of each image: its largest value / 32767, rounded up; 0 values: the source's",
        "MR": "the source's, where it changes a value",
    },
    "RescaleIntercept": {"CT": "0; -1024 with unsigned-12", "PT": "0", "MR": "the source's, where it changes a value"},
    "RescaleType": {"CT": "HU", "MR": "the source's"},
    "PixelPaddingValue": {
        "CT": "the stored value of what lies outside the reconstruction, where no other voxel has it; else absent",
        "PT": "as CT",
        "MR": "as CT",
    },
    "NumberOfSlices": {"PT": "images of one volume of the result"},
    "ImageIndex": {"PT": "the source's where it still counts exactly these images, else anew in the same direction"},
    "SeriesDate": {"CT": JOB_MOMENT, "MR": JOB_MOMENT},
    "SeriesTime": {"CT": JOB_MOMENT, "MR": JOB_MOMENT},
    "PatientPosition": {
        "CT": "the source's; of a PET, from its orientation codes; else empty",
        "MR": "the source's; else empty",
    },
    "PatientOrientationCodeSequence": {"PT": "the source's; else from its PatientPosition"},
    "PatientGantryRelationshipCodeSequence": {"PT": "the source's; else from its PatientPosition"},
    "NumberOfTimeSlices": {"PT": "of a DYNAMIC series only: the source's, else the time frames of the result"},
    "BeatRejectionFlag": {"PT": "the source's; empty for a GATED series that does not say"},
    "DiffusionBValue": {"MR": "the source's, where it says something"},
    "DiffusionDirectionality": {"MR": "the source's, where it says something"},
    "DiffusionGradientOrientation": {"MR": "the source's, where it says something"},
    "DiffusionBMatrixSequence": {"MR": "the source's, where it says something"},
}
"""Modality of the result -> how; a modality that is not named does not have it."""

ON_A_CONDITION: Mapping[str, Mapping[str, str]] = {
    "LowRRValue": {"PT": "only where BeatRejectionFlag is Y"},
    "HighRRValue": {"PT": "only where BeatRejectionFlag is Y"},
    "InversionTime": {"MR": "not where it is empty or 0 and ScanningSequence holds no IR"},
    "TriggerTime": {"MR": "only where it has a value"},
}
"""Copied from the source but for what PS3.3 forbids; of PET also what iods.PET_CONDITIONS says."""
