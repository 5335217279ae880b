"""A sweep lists what arrived and closes what is whole; when a disk fails it loses nothing and does not spin."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa
from pydicom import dcmread

from dicomnode import gather, route, sweep
from dicomnode.config import Config, load_config
from dicomnode.gather import list_arrivals
from dicomnode.stores import Stores
from dicomnode.sweep import Sweep
from storage import audit, catalog
from storage.catalog import Instance, SeriesState
from storage.errors import DatabaseAway, StorageFull
from tests.builders_dicom import write_ct_series


class Station:
    """A node's stores and its sweep, with no port and no other process."""

    def __init__(self, folder: Path, *, quiet_seconds: float = 600) -> None:
        config = folder / "config"
        config.mkdir(parents=True, exist_ok=True)
        (config / "node.toml").write_text(f'[node]\ndata_folder = "../var"\nquiet_seconds = {quiet_seconds}\n')
        (config / "rules.toml").write_text("")
        self.config: Config = load_config(config)
        self.stores = Stores.open(self.config)
        self.told: list[Instance] = []
        self.selects: list[str] = []
        sa.event.listen(self.stores.database.engine, "before_cursor_execute", self._note)
        self.sweep = self.new_sweep()

    def new_sweep(self) -> Sweep:
        """As after a restart of the node."""
        return Sweep(lambda: self.config, self.stores, listed=self.told.extend)

    def _note(self, connection: object, cursor: object, statement: str, *more: object) -> None:
        if statement.startswith("SELECT") and "instances.header" in statement:
            self.selects.append(statement)

    def receive(self, paths: list[Path]) -> None:
        for path in paths:
            uid = str(dcmread(path, stop_before_pixels=True).SOPInstanceUID)
            self.stores.files.keep_arrival(uid, [path.read_bytes()])

    def series(self) -> list[catalog.Series]:
        with self.stores.database.read() as connection:
            return catalog.list_series(connection)

    def events(self) -> list[str]:
        with self.stores.database.read() as connection:
            return [entry.event for entry in audit.entries(connection)]


@pytest.fixture
def station(tmp_path: Path) -> Station:
    return Station(tmp_path)


@pytest.fixture
def scan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[Path]]:
    """A CT series that announces its count, which need not stand for a second."""
    monkeypatch.setattr("dicomnode.whole.ACQUISITION_SETTLE_S", 0.0)

    def write(slices: int, name: str = "source") -> list[Path]:
        return write_ct_series(tmp_path / name, slices=slices, rows=8, columns=8, ImagesInAcquisition=slices)

    return write


def test_a_growing_series_is_read_from_the_catalogue_only_when_it_is_whole(
    station: Station, scan: Callable[..., list[Path]]
) -> None:
    for path in scan(6):
        assert station.selects == []
        station.receive([path])
        station.sweep()
    assert len(station.selects) == 1, "once, for the rules"
    (whole,) = station.series()
    assert whole.state is SeriesState.CLOSED
    assert whole.closed_because == "all 6 instances that ImagesInAcquisition announces are here, without a gap"
    assert len(station.told) == 6


def test_after_a_restart_the_numbers_are_asked_of_the_catalogue_and_decide_the_same(
    station: Station, scan: Callable[..., list[Path]]
) -> None:
    paths = scan(6)
    station.receive(paths[:4])
    station.sweep()
    station.sweep = station.new_sweep()
    station.receive(paths[4:])
    station.sweep()
    assert "all 6 instances" in station.series()[0].closed_because


def test_an_instance_that_somebody_else_listed_counts(station: Station, scan: Callable[..., list[Path]]) -> None:
    paths = scan(6)
    station.receive(paths[:2])
    station.sweep()
    station.receive(paths[2:4])
    list_arrivals(station.stores.database, station.stores.files, peer_of=str)
    station.receive(paths[4:])
    station.sweep()
    assert "all 6 instances" in station.series()[0].closed_because


def test_a_late_instance_of_a_closed_series_is_counted_with_the_old_ones(
    station: Station, scan: Callable[..., list[Path]]
) -> None:
    paths = scan(4)
    station.receive(paths)
    station.sweep()
    (late,) = write_ct_series(
        paths[0].parent / "late",
        slices=1,
        rows=8,
        columns=8,
        ImagesInAcquisition=5,
        series_instance_uid=str(dcmread(paths[0]).SeriesInstanceUID),
    )
    station.receive([late])
    station.sweep()
    (again,) = station.series()
    assert (again.state, again.generation, again.instance_count) == (SeriesState.OPEN, 2, 5)


def test_a_quiet_series_closes_without_a_count(tmp_path: Path) -> None:
    station = Station(tmp_path / "quick", quiet_seconds=0.01)
    station.receive(write_ct_series(tmp_path / "source", slices=3, rows=8, columns=8))
    station.sweep()
    time.sleep(0.02)
    station.sweep()
    assert station.series()[0].closed_because.startswith("nothing came for 0.01 s; 3 images are here")


def test_a_series_whose_next_image_comes_slowly_is_not_closed_before_it_is_here(tmp_path: Path) -> None:
    station = Station(tmp_path / "quick", quiet_seconds=0.01)
    *first, last = write_ct_series(tmp_path / "source", slices=3, rows=8, columns=8)
    station.receive(first)
    content = last.read_bytes()
    arrival = station.stores.files.open_arrival(str(dcmread(last).SOPInstanceUID))
    arrival.write(content[:-10])
    for _ in range(4):
        station.sweep()
        time.sleep(0.02)
    assert station.series()[0].state is SeriesState.OPEN
    arrival.write(content[-10:])
    arrival.keep()
    arrival.close()
    station.sweep()
    time.sleep(0.02)
    station.sweep()
    (whole,) = station.series()
    assert (whole.state, whole.generation, whole.instance_count) == (SeriesState.CLOSED, 1, 3)


def test_a_series_in_a_long_backlog_is_not_closed_before_the_rest_of_it_is_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(list_arrivals.__kwdefaults__ or {}, "most", 2)
    station = Station(tmp_path / "quick", quiet_seconds=0.01)
    station.receive(write_ct_series(tmp_path / "source", slices=7, rows=8, columns=8))
    an_hour_ago = time.time() - 3600
    for path in station.stores.files.arrivals():
        os.utime(path, (an_hour_ago, an_hour_ago))
    while station.sweep():
        time.sleep(0.02)
        assert station.series()[0].state is SeriesState.OPEN
    time.sleep(0.02)
    station.sweep()
    (whole,) = station.series()
    assert (whole.state, whole.generation, whole.instance_count) == (SeriesState.CLOSED, 1, 7)


def test_while_nothing_can_be_listed_no_series_is_taken_for_quiet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*arguments: object, **more: object) -> None:
        raise StorageFull("full")

    station = Station(tmp_path / "quick", quiet_seconds=0.01)
    *first, last = write_ct_series(tmp_path / "source", slices=3, rows=8, columns=8)
    station.receive(first)
    list_arrivals(station.stores.database, station.stores.files, peer_of=str)
    station.receive([last])
    with monkeypatch.context() as patch:
        patch.setattr(catalog, "add_instances", broken)
        with pytest.raises(StorageFull):
            station.sweep()
    for _ in range(4):
        time.sleep(0.02)
        station.sweep()  # it pauses before it lists again, and the third image waits
    assert station.series()[0].state is SeriesState.OPEN


def test_a_node_that_starts_gives_open_series_their_time(tmp_path: Path) -> None:
    station = Station(tmp_path / "quick", quiet_seconds=0.05)
    station.receive(write_ct_series(tmp_path / "source", slices=2, rows=8, columns=8))
    station.sweep()
    time.sleep(0.1)
    station.sweep = station.new_sweep()
    station.sweep()
    assert station.series()[0].state is SeriesState.OPEN
    time.sleep(0.1)
    station.sweep()
    assert station.series()[0].state is SeriesState.CLOSED


def test_a_long_backlog_does_not_hold_up_a_series_that_is_whole(
    station: Station, scan: Callable[..., list[Path]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(list_arrivals.__kwdefaults__ or {}, "most", 3)
    station.receive(scan(3, "first"))
    station.receive(scan(4, "second"))
    assert station.sweep() is True
    assert [one.state for one in station.series()] == [SeriesState.CLOSED]
    assert [station.sweep(), station.sweep()] == [True, False]
    assert [one.state for one in station.series()] == [SeriesState.CLOSED] * 2


@pytest.mark.parametrize("fault", [DatabaseAway("away"), StorageFull("full"), OSError("broken")])
def test_after_a_fault_listing_waits_a_little_nothing_is_lost_and_the_rest_goes_on(
    station: Station, scan: Callable[..., list[Path]], monkeypatch: pytest.MonkeyPatch, fault: Exception
) -> None:
    def broken(*arguments: object, **more: object) -> None:
        raise fault

    station.receive(scan(3))
    with monkeypatch.context() as patch:
        patch.setattr(catalog, "add_instances", broken)
        with pytest.raises(type(fault)):
            station.sweep()
        station.sweep.tell("config reloaded", "", {})
        station.sweep()  # no second try so soon, but what else there is to do is done
        assert "config reloaded" in station.events()
    station.sweep()
    assert station.series() == [] and len(station.stores.files.arrivals()) == 3
    monkeypatch.setattr(station.sweep, "_list_at", 0.0)  # as if the pause were over
    station.sweep()
    assert station.series()[0].instance_count == 3


def test_pauses_grow_to_a_limit_and_end_with_the_first_success(
    station: Station, scan: Callable[..., list[Path]], monkeypatch: pytest.MonkeyPatch
) -> None:
    real, pauses = gather.list_arrivals, []

    def broken(*arguments: object, **more: object) -> None:
        raise StorageFull("full")

    monkeypatch.setattr(gather, "list_arrivals", broken)
    for _ in range(6):
        station.sweep._list_at = 0.0
        with pytest.raises(StorageFull):
            station.sweep()
        pauses.append(station.sweep._pause_s)
    assert pauses == [1, 2, 4, 8, 10, 10]
    monkeypatch.setattr(gather, "list_arrivals", real)
    station.sweep._list_at = 0.0
    station.sweep()
    assert station.sweep._pause_s == 0


def test_a_series_that_cannot_be_routed_is_told_once_tried_later_and_holds_up_no_other(
    station: Station, scan: Callable[..., list[Path]], monkeypatch: pytest.MonkeyPatch
) -> None:
    sick, well = scan(3, "sick"), scan(3, "well")
    uid, tries, real = str(dcmread(sick[0]).SeriesInstanceUID), [], route.route_series

    def routed(database: object, series: catalog.Series, *more: object, **others: object) -> object:
        if series.series_instance_uid == uid:
            tries.append(series)
            raise ArithmeticError("odd")
        return real(database, series, *more, **others)  # type: ignore[arg-type]

    monkeypatch.setattr(route, "route_series", routed)
    station.receive([*sick, *well])
    for _ in range(3):
        station.sweep.look_again()
        station.sweep()
    states = {one.series_instance_uid: one.state for one in station.series()}
    assert states[uid] is SeriesState.OPEN and list(states.values()).count(SeriesState.CLOSED) == 1
    assert len(tries) == 3, "a changed config is a reason to try at once"
    station.sweep()
    assert len(tries) == 3
    monkeypatch.setattr(route, "route_series", real)
    station.sweep.look_again()
    station.sweep()
    assert {one.state for one in station.series()} == {SeriesState.CLOSED}
    assert station.events().count("series not routed") == 1


def test_a_whole_series_that_the_database_did_not_take_is_routed_as_soon_as_it_is_back(
    station: Station, scan: Callable[..., list[Path]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*arguments: object, **more: object) -> None:
        raise DatabaseAway("away")

    station.receive(scan(3))
    with monkeypatch.context() as patch:
        patch.setattr(route, "route_series", away)
        with pytest.raises(DatabaseAway):
            station.sweep()
    station.sweep()
    assert [one.state for one in station.series()] == [SeriesState.CLOSED]


def test_settled_files_lose_their_second_name_when_many_wait_or_nothing_comes(
    station: Station, scan: Callable[..., list[Path]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweep, "UNTIDY", 5)
    paths, files = scan(8), station.stores.files
    station.receive(paths[:3])
    station.sweep()
    assert files.untidy == 3
    station.sweep()
    assert files.untidy == 0, "nothing came"
    station.receive(paths[3:])
    station.sweep()
    assert files.untidy == 0, "five waited"
    assert not list((station.config.data_folder / "arrivals").iterdir())


def test_the_end_of_a_node_leaves_nothing_untidy(station: Station, scan: Callable[..., list[Path]]) -> None:
    station.receive(scan(3))
    station.sweep()
    station.sweep.tidy()
    assert not list((station.config.data_folder / "arrivals").iterdir())
