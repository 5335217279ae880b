"""Who the node is, and that its UIDs are a function of what they name."""

from hypothesis import given
from hypothesis import strategies as st
from pydicom.uid import UID

from dicomnode.uids import (
    IMPLEMENTATION_CLASS_UID,
    IMPLEMENTATION_VERSION_NAME,
    derived_instance_uid,
    derived_series_uid,
    deterministic_uid,
    device_uid,
    used_instance,
)

DEPLOYMENT = "12345678-1234-5678-1234-567812345678"
FACTS = {
    "pipeline": "p",
    "pipeline_version": "1",
    "weights_sha256": "",
    "parameters_sha256": "x",
    "source_series_instance_uid": "1.2",
    "used_sop_instance_uids": ["1.2.1", "1.2.2"],
    "role": "image",
    "generation": 1,
}


@given(st.lists(st.text(max_size=8), max_size=4), st.lists(st.text(max_size=8), max_size=4))
def test_other_parts_give_another_uid_and_the_same_the_same(one: list[str], other: list[str]) -> None:
    first, second = deterministic_uid(DEPLOYMENT, one), deterministic_uid(DEPLOYMENT, other)
    assert (first == second) == (one == other)
    assert UID(first).is_valid and len(first) <= 44


def test_the_borders_between_parts_count() -> None:
    assert deterministic_uid(DEPLOYMENT, ["ab", "c"]) != deterministic_uid(DEPLOYMENT, ["a", "bc"])


def test_every_fact_of_the_work_makes_another_series_and_the_order_of_the_sources_does_not() -> None:
    usual = derived_series_uid(DEPLOYMENT, **FACTS)
    changes = {
        "pipeline": "q",
        "pipeline_version": "2",
        "weights_sha256": "w",
        "parameters_sha256": "y",
        "source_series_instance_uid": "1.3",
        "used_sop_instance_uids": ["1.2.1", "1.2.2", "1.2.3"],
        "role": "mask",
        "generation": 2,
    }
    others = {derived_series_uid(DEPLOYMENT, **(FACTS | {name: value})) for name, value in changes.items()}
    assert len(others | {usual}) == len(changes) + 1
    assert derived_series_uid(DEPLOYMENT, **(FACTS | {"used_sop_instance_uids": ["1.2.2", "1.2.1"]})) == usual


def test_two_deployments_never_share_a_uid() -> None:
    other = "87654321-1234-5678-1234-567812345678"
    assert derived_series_uid(DEPLOYMENT, **FACTS) != derived_series_uid(other, **FACTS)
    assert device_uid(DEPLOYMENT) != device_uid(other)


def test_an_instance_is_named_by_its_series_and_its_source() -> None:
    uids = {
        derived_instance_uid(DEPLOYMENT, series_instance_uid=series, source_sop_instance_uid=source)
        for series in ("1.1", "1.2")
        for source in ("2.1", "2.2")
    }
    assert len(uids) == 4


def test_u2_u3_every_frame_of_a_multi_frame_source_is_named_by_itself() -> None:
    uids = {
        derived_instance_uid(DEPLOYMENT, series_instance_uid="1.1", source_sop_instance_uid="2.1", frame=frame)
        for frame in (0, 1, 2, 12)
    }
    assert len(uids) == 4
    used = {used_instance(uid, frame) for uid in ("2.1", "2.11") for frame in (0, 1, 11)}
    assert len(used) == 6 and used_instance("2.1", 0) == "2.1"


def test_the_implementation_is_ours_and_fits_its_fields() -> None:
    assert UID(IMPLEMENTATION_CLASS_UID).is_valid and IMPLEMENTATION_CLASS_UID.startswith("2.25.")
    assert IMPLEMENTATION_VERSION_NAME.startswith("DCMNODE_") and len(IMPLEMENTATION_VERSION_NAME) <= 16
