"""What is made is told once, of attributes that there are."""

from __future__ import annotations

from dicomnode import iods
from dicomnode.conformance.made import MADE, MADE_OF, ON_A_CONDITION


def test_every_attribute_told_is_in_the_dictionary_and_told_in_one_place() -> None:
    assert iods.tags({*MADE, *MADE_OF, *ON_A_CONDITION})
    assert not {*MADE} & {*MADE_OF} and not {*MADE, *MADE_OF} & {*ON_A_CONDITION}


def test_what_is_told_by_modality_is_told_of_ct_pet_and_mr_only() -> None:
    assert {target for of in (*MADE_OF.values(), *ON_A_CONDITION.values()) for target in of} <= {"CT", "PT", "MR"}
