"""The node's own fetching looks at both: what jobs need and what `[[retrieve]]` asks for."""

from __future__ import annotations

from pathlib import Path

from dicomnode.fetch import Fetch
from dicomnode.need_settings import NeedTable
from dicomnode.stores import Stores
from storage import needs
from storage.database import Database
from storage.passport_files import PassportFiles
from tests.builders_dicom import write_ct_series, write_pet_series
from tests.builders_fetch import Holding
from tests.peers import wait_until

STUDY = "1.2.826.0.1.3680043.8.498.79"


def test_one_look_fills_needs_and_asks_peers(database: Database, tmp_path: Path) -> None:
    holding = Holding(database, tmp_path, rules='[[retrieve]]\nname = "new"\nfrom = "pacs"\n')
    ct = holding.receive(write_ct_series(tmp_path / "ct", study_instance_uid=STUDY))
    pet = holding.receive(write_pet_series(tmp_path / "pet", study_instance_uid=STUDY))
    job = holding.job(pet, NeedTable(modality="CT").as_kept)
    stores = Stores(database, holding.files, tmp_path, PassportFiles(tmp_path / "passports"))
    woken: list[bool] = []
    Fetch(lambda: holding.config, stores, tell=holding.tell, filled=lambda: woken.append(True))()
    with database.read() as connection:
        assert needs.inputs_of(connection, job.id)[0].series_instance_uid == ct
    assert woken == [True]
    wait_until(lambda: holding.told, seconds=20)
    assert holding.told[0][0] == "retrieve failed"
