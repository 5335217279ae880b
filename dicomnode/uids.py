"""Who the node is in DICOM, and the deterministic UIDs of what it makes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from uuid import UUID, uuid5


def _node_version() -> str:
    try:
        return version("dicom-ai-node")
    except PackageNotFoundError:  # run from a checkout that is not installed
        return "0"


NODE_VERSION = _node_version()
IMPLEMENTATION_CLASS_UID = "2.25.188142089024709342185000276547205088428"
IMPLEMENTATION_VERSION_NAME = ("DCMNODE_" + "_".join(NODE_VERSION.split(".")[:2]))[:16]
MANUFACTURER = "dicom-ai-node"
MODEL_NAME = "dicom-ai-node"
"""ManufacturerModelName of everything derived: by it a node knows its own kind's series when they come back."""
CODING_SCHEME = "99DCMNODE"


def deterministic_uid(deployment_uuid: str, parts: Sequence[str]) -> str:
    """A UID that the same parts on the same deployment always give; the list's borders count (PS3.5 B.2)."""
    name = json.dumps(list(parts), separators=(",", ":"))
    return f"2.25.{uuid5(UUID(deployment_uuid), name).int}"


def derived_series_uid(
    deployment_uuid: str,
    *,
    pipeline: str,
    pipeline_version: str,
    weights_sha256: str,
    parameters_sha256: str,
    source_series_instance_uid: str,
    used_sop_instance_uids: Sequence[str],
    role: str,
    generation: int,
) -> str:
    """The derived series' UID: other sources, parameters, weights or another generation give another series."""
    used = hashlib.sha256("\n".join(sorted(used_sop_instance_uids)).encode()).hexdigest()
    parts = ["series", pipeline, pipeline_version, weights_sha256, parameters_sha256, source_series_instance_uid]
    return deterministic_uid(deployment_uuid, [*parts, used, role, str(generation)])


def derived_instance_uid(
    deployment_uuid: str, *, series_instance_uid: str, source_sop_instance_uid: str, frame: int = 0
) -> str:
    """The derived instance's UID within its series; frame: of a multi-frame source, from 1."""
    parts = [series_instance_uid, source_sop_instance_uid]
    return deterministic_uid(deployment_uuid, [*parts, str(frame)] if frame else parts)


def used_instance(sop_instance_uid: str, frame: int) -> str:
    """What the used set of a series knows a source image by; frame: of a multi-frame instance, else 0 (U3)."""
    return f"{sop_instance_uid} {frame}" if frame else sop_instance_uid


def device_uid(deployment_uuid: str, *parts: str) -> str:
    """The identity of the node itself (no parts) or of one model on it."""
    return deterministic_uid(deployment_uuid, ["device", *parts])
