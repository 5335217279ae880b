"""What the objects beside a derived series are made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pydicom.dataset import Dataset

from dicomnode import provenance
from dicomnode.provenance import JobFacts
from dicomnode.source_image import SourceImage
from dicomnode.uids import MANUFACTURER, derived_instance_uid, derived_series_uid, used_instance
from inference.pipeline import Card, Outcome
from inference.volume import Volume


@dataclass(frozen=True, slots=True, eq=False)
class Derivation:
    """One stack that was derived.

    source: what the pipeline was given; outcome: what it made of it, on the same grid.
    images: the source image of each slice k; derived: the header, without pixels, of the derived image of each slice k.
    part: which time frame of the derived series this is, from 0. Which stack of the job it is, the job's facts say.
    """

    source: Volume
    outcome: Outcome
    card: Card
    images: tuple[SourceImage, ...]
    derived: tuple[Dataset, ...]
    job: JobFacts
    part: int = 0

    @property
    def content_qualification(self) -> str:
        """RESEARCH or PRODUCT, as the derived images themselves say (C22): a research source makes it RESEARCH."""
        return str(self.derived[0].get("ContentQualification") or "RESEARCH")

    def series_uid(self, role: str) -> str:
        """The UID of the series that holds the objects of this role (DERIVED_SERIES U2)."""
        return derived_series_uid(
            self.job.deployment_uuid,
            pipeline=self.card.name,
            pipeline_version=self.card.version,
            weights_sha256=self.card.weights_sha256,
            parameters_sha256=provenance.parameters_sha256(self.card, self.job),
            source_series_instance_uid=self.images[0].text("SeriesInstanceUID"),
            used_sop_instance_uids=[used_instance(image.sop_instance_uid, image.frame) for image in self.images],
            role=role,
            generation=self.job.generation,
        )

    def instance_uid(self, role: str, *, number: int = 1) -> str:
        """The UID of the number-th object of this role."""
        return derived_instance_uid(
            self.job.deployment_uuid,
            series_instance_uid=self.series_uid(role),
            source_sop_instance_uid=f"{role} {number}",
        )

    def placed(self, role: str, *, number: int = 1) -> dict[str, Any]:
        """What every constructor of highdicom is told of where the number-th object of this role belongs."""
        return {
            "series_instance_uid": self.series_uid(role),
            "series_number": 1,  # harmonise numbers the series of a job
            "sop_instance_uid": self.instance_uid(role, number=number),
            "instance_number": number,
            "manufacturer": MANUFACTURER,
        }
