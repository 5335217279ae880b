"""The node as the one who observed, measured and selected: the device observer of reports and key objects."""

from __future__ import annotations

from highdicom.sr import DeviceObserverIdentifyingAttributes, ObserverContext
from pydicom.sr.codedict import codes

from dicomnode.companions.derivation import Derivation
from dicomnode.provenance import ascii_text
from dicomnode.uids import MANUFACTURER, MODEL_NAME, device_uid


def node_as_observer(derivation: Derivation) -> ObserverContext:
    """TID 1002 with the node's own device UID (TID 1004)."""
    job = derivation.job
    return ObserverContext(
        observer_type=codes.DCM.Device,
        observer_identifying_attributes=DeviceObserverIdentifyingAttributes(
            uid=device_uid(job.deployment_uuid),
            name=ascii_text(job.station_name, longest=64) or None,
            manufacturer_name=MANUFACTURER,
            model_name=MODEL_NAME,
            serial_number=job.deployment_uuid,
        ),
    )
