"""The faults of storage say what can be done and have one family."""

from __future__ import annotations

import inspect

from storage import errors


def test_every_fault_is_a_storage_fault_and_says_what_can_be_done() -> None:
    faults = [one for _, one in inspect.getmembers(errors, inspect.isclass)]
    assert {one.__name__ for one in faults} >= {
        "StorageFull",
        "InstanceConflict",
        "StaleState",
        "IllegalTransition",
        "AuditBroken",
    }
    for one in faults:
        assert issubclass(one, errors.StorageFault)
        assert one.__doc__
