"""What inference's faults carry."""

from __future__ import annotations

import pytest

from inference.errors import DeviceExhausted, InferenceFault, SettingsInvalid, SourceRefused, WeightsInvalid


def test_a_refusal_carries_a_stable_code_beside_its_sentence() -> None:
    fault = SourceRefused("no-metal", "no metal was found")
    assert fault.reason_code == "no-metal"
    assert str(fault) == "no metal was found"


def test_an_invalid_setting_names_its_key() -> None:
    fault = SettingsInvalid("method", "method is li or nmar")
    assert fault.key == "method"
    assert str(fault) == "method is li or nmar"


@pytest.mark.parametrize("kind", [SourceRefused, DeviceExhausted, WeightsInvalid, SettingsInvalid])
def test_every_fault_of_inference_can_be_caught_as_one(kind: type[Exception]) -> None:
    assert issubclass(kind, InferenceFault)
