"""What tests of monitors arrange with: a node that stands well, an instance and a job."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from dicomnode.metrics import Standing
from storage.catalog import Instance
from storage.jobs import NewJob

MOMENT = datetime(2024, 5, 6, 7, 8, 9, tzinfo=UTC)
STANDING = Standing(
    processes=lambda: {"work-0": True, "send": True},
    associations=lambda: 3,
    free_bytes=lambda: 50_000_000_000,
    watermark_bytes=lambda: 1e9,
    quarantined=lambda: 2,
)


def instance(number: int, *, series: str = "1.2.3.4") -> Instance:
    """One CT slice that came in 2024."""
    return Instance(
        sop_instance_uid=f"{series}.{number}",
        sop_class_uid="1.2.840.10008.5.1.4.1.1.2",
        transfer_syntax_uid="1.2.840.10008.1.2.1",
        series_instance_uid=series,
        study_instance_uid="1.2.3",
        peer="scanner",
        received_at=MOMENT,
        sha256=f"{number:064x}",
        size_bytes=526_000,
        header={"Modality": "CT", "InstanceNumber": number},
    )


def new_job(key: str = "a" * 64, **more: Any) -> NewJob:
    """Work on the first two slices."""
    facts: dict[str, Any] = {
        "key": key,
        "series_instance_uid": "1.2.3.4",
        "study_instance_uid": "1.2.3",
        "generation": 1,
        "rule": "CT with metal",
        "pipeline": "ct_denoising",
        "pipeline_version": "1.0.0",
        "settings": {},
        "source_sop_instance_uids": ("1.2.3.4.1", "1.2.3.4.2"),
        "priority": 1,
        "destinations": ("pacs",),
        "created_at": MOMENT,
    }
    return NewJob(**facts | more)
