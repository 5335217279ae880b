"""How a job treats its series survives the database, and the usual leaves no trace in it."""

from __future__ import annotations

import json

from dicomnode.handling import Handling


def test_the_usual_handling_is_an_empty_object() -> None:
    assert Handling().as_json() == {}
    assert Handling.from_json({}) == Handling()


def test_what_is_not_usual_comes_back_from_json_as_it_was() -> None:
    handling = Handling(also=("segmentation", "banner"), split_mixed=True, follows=True, character_set="ISO_IR 100")
    assert Handling.from_json(json.loads(json.dumps(handling.as_json()))) == handling
    assert "split_uneven" not in handling.as_json()
