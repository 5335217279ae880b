"""What was seen at a peer is remembered: how much it held, and whether all of it came."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from storage import catalog, sightings
from storage.database import Connection, Database
from storage.sightings import Sight, Sighting
from tests.builders_standing import MOMENT, instance


def saw(connection: Connection, state: Sight, instances: int, **more: Any) -> None:
    where = {"peer": "pacs", "series_instance_uid": "1.2.3.4", "study_instance_uid": "1.2.3", "rule": "new CT"}
    sightings.saw(connection, **where | more, state=state, instances=instances, now=MOMENT)


def test_the_last_sight_counts_and_its_failures_are_added_up(database: Database) -> None:
    with database.begin() as connection:
        assert sightings.sighting(connection, "pacs", "1.2.3.4") is None
        saw(connection, Sight.SEEN, 5)
        saw(connection, Sight.WANTED, 7, reason="the peer sent 5 of 7")
        saw(connection, Sight.WANTED, 7, reason="the peer sent 6 of 7")
        assert sightings.sighting(connection, "pacs", "1.2.3.4") == Sighting(Sight.WANTED, 7, 2)
        assert sightings.sighting(connection, "archive", "1.2.3.4") is None
        saw(connection, Sight.WANTED, 7, peer="archive", reason="it refused")
        assert sightings.sighting(connection, "archive", "1.2.3.4") == Sighting(Sight.WANTED, 7, 1)


def test_a_series_of_which_a_peer_holds_more_is_short(database: Database) -> None:
    with database.begin() as connection:
        catalog.add_instances(connection, [instance(1), instance(2)])
        held = [catalog.get_series(connection, "1.2.3.4")]
        assert sightings.short_series(connection, held) == set()
        saw(connection, Sight.FETCHED, 2)
        assert sightings.short_series(connection, held) == set()
        saw(connection, Sight.WANTED, 3)
        assert sightings.short_series(connection, held) == {"1.2.3.4"}


def test_when_a_peer_was_asked_last_is_remembered(database: Database) -> None:
    with database.begin() as connection:
        assert sightings.looked_at(connection, "new CT") is None
        for seconds in (0, 60):
            sightings.look(connection, "new CT", MOMENT + timedelta(seconds=seconds))
        assert sightings.looked_at(connection, "new CT") == MOMENT + timedelta(seconds=60)
        assert sightings.looked_at(connection, "new PET") is None
