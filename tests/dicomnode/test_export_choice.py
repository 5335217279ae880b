"""What is exported is what was named, and what is not here is said."""

from __future__ import annotations

import pytest

from dicomnode.export_choice import NothingChosen, choose
from dicomnode.rules import Rule
from storage import catalog
from storage.database import Database
from tests.builders_routed import images, receive

CT, PET = "1.2.3", "1.2.4"


@pytest.fixture
def held(database: Database) -> Database:
    receive(database, CT)
    receive(database, PET, Modality="PT")
    with database.begin() as connection:
        catalog.add_derived_series(connection, "1.2.5", images("1.2.5", 1))
    return database


def chosen(database: Database, **what: object) -> list[str]:
    with database.read() as connection:
        return [one.series_instance_uid for one in choose(connection, **what)]  # type: ignore[arg-type]


def test_series_and_studies_are_chosen_by_name_derived_ones_too(held: Database) -> None:
    assert chosen(held, series=[PET]) == [PET]
    assert chosen(held, series=["1.2.5"]) == ["1.2.5"]
    assert sorted(chosen(held, studies=["1.2"])) == [CT, PET, "1.2.5"]


def test_a_rule_chooses_the_received_series_that_meet_it(held: Database) -> None:
    assert chosen(held, rules=[Rule("ct", 'Modality == "CT"', "")]) == [CT]
    assert chosen(held, rules=[Rule("ct", 'Modality == "CT"', ""), Rule("pt", 'Modality == "PT"', "")]) == [CT, PET]


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ({"series": ["9.9"]}, "series 9.9"),
        ({"studies": ["9.9"]}, "study 9.9"),
        ({"rules": [Rule("mr", 'Modality == "MR"', "")]}, "meets the rule"),
        ({}, "name a series"),
    ],
)
def test_what_is_not_here_is_said(held: Database, what: dict[str, object], said: str) -> None:
    with pytest.raises(NothingChosen, match=said):
        chosen(held, **what)


def test_every_instance_of_a_series_is_chosen(held: Database) -> None:
    with held.read() as connection:
        (one,) = choose(connection, series=[CT])
    assert len(one.instances) == 2
    assert one.study_instance_uid == "1.2"
