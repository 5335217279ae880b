"""A peer is promised what we keep: each instance is looked at, and the report goes out until it is acknowledged."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from dicomnode.contexts import ACCEPTED_STORAGE
from dicomnode.errors import HeaderUnreadable, PeerUnreachable
from dicomnode.headers import read_header
from storage.errors import ObjectUnfit, StorageFull
from storage.references import (
    CLASS_INSTANCE_CONFLICT,
    CLASS_NOT_SUPPORTED,
    NO_SUCH_INSTANCE,
    OUT_OF_RESOURCES,
    PROCESSING_FAILURE,
    Reference,
    Report,
)

if TYPE_CHECKING:
    from storage.database import Database
    from storage.instance_files import InstanceFiles
    from storage.promises import Listed, Promise

LOG = logging.getLogger(__name__)
LOOKS = 3
Look = Callable[[Sequence[str]], dict[str, "Listed"]]
"""SOP Instance UIDs -> those that the catalogue lists at this moment."""
HasRoom = Callable[[], bool]


def keep_promise(
    promise_id: int,
    tell: Callable[[Report], None],
    *,
    database: Database,
    files: InstanceFiles,
    has_room: HasRoom,
    wait_s: Callable[[int], float],
    patience: timedelta,
) -> str:
    """What became of the report: reported, waiting for its next try, or abandoned when it was tried for its days.

    tell: sends the report, raising PeerUnreachable when it was not acknowledged. What is promised is looked at anew
    before each try.
    """
    from storage import promises
    from storage.promises import PromiseState

    now = datetime.now(UTC)

    def look(sop_instance_uids: Sequence[str]) -> dict[str, Listed]:
        with database.read() as connection:
            return promises.listed_instances(connection, sop_instance_uids)

    with database.read() as connection:
        promise = promises.get_promise(connection, promise_id)
        references = promises.promised(connection, promise_id)
    if promise.state is not PromiseState.WAITING or (promise.next_try_at or now) > now:
        return f"nothing to do: {promise.state}"
    try:
        failed = check(references, look, files, has_room=has_room)
        with database.begin() as connection:
            promises.record_check(connection, promise_id, failed)
        tell(_report(promise, references, failed))
    except PeerUnreachable as fault:
        return _put_off(promise, str(fault), database, wait_s, patience)
    except (OSError, StorageFull, ValueError) as fault:  # our side: a disk, or a store that is away
        LOG.exception("commitment: request %s of %s", promise_id, promise.peer)
        why = f"{type(fault).__name__} on our side; the log has the trace"
        return _put_off(promise, why, database, wait_s, patience)
    with database.begin() as connection:
        promises.finish_promise(connection, promise, now=datetime.now(UTC))
    LOG.info(
        "commitment: %s is told: %d instances kept, %d not", promise.peer, len(references) - len(failed), len(failed)
    )
    return PromiseState.REPORTED


def check(references: Sequence[Reference], look: Look, files: InstanceFiles, *, has_room: HasRoom) -> dict[str, int]:
    """SOP Instance UID -> failure reason of each instance that we cannot commit to; the others were read back whole.

    What is not found is looked for again: it may have been listed, and moved to its place, meanwhile. Raises OSError or
    StorageFull while it cannot be said.
    """
    failed: dict[str, int] = {}
    wanted = list(references)
    for _ in range(LOOKS):
        listed = look([one.sop_instance_uid for one in wanted])
        missing = []
        for one in wanted:
            reason = _failure(one, listed.get(one.sop_instance_uid), files)
            if reason == NO_SUCH_INSTANCE:
                missing.append(one)
            elif reason is not None:
                failed[one.sop_instance_uid] = reason
        if not (wanted := missing):
            break
    for one in wanted:
        known = one.sop_class_uid in ACCEPTED_STORAGE
        reason = (NO_SUCH_INSTANCE if has_room() else OUT_OF_RESOURCES) if known else CLASS_NOT_SUPPORTED
        failed[one.sop_instance_uid] = reason
    return failed


def _failure(one: Reference, listed: Listed | None, files: InstanceFiles) -> int | None:
    """Why we cannot commit to the instance; None: we hold it."""
    try:
        sop_class_uid, whole = _read_back(one.sop_instance_uid, listed, files)
    except (FileNotFoundError, ObjectUnfit):
        if listed is not None:
            LOG.error("commitment: %s is in the catalogue, and its file is gone", one.sop_instance_uid)
        return NO_SUCH_INSTANCE
    except HeaderUnreadable:  # it will lie in quarantine, where nobody finds it
        return PROCESSING_FAILURE
    if sop_class_uid != one.sop_class_uid:
        return CLASS_INSTANCE_CONFLICT
    if not whole:
        LOG.error("commitment: the file of %s is not what was received", one.sop_instance_uid)
        return PROCESSING_FAILURE
    return None


def _read_back(sop_instance_uid: str, listed: Listed | None, files: InstanceFiles) -> tuple[str, bool]:
    """The SOP class of what we hold, and whether its file is what was received.

    What the catalogue does not list is held only among the arrivals: elsewhere it is what retention is about to take.
    """
    if listed is None:
        return read_header(files.places_of(sop_instance_uid)[1]).sop_class_uid, True
    return listed.sop_class_uid, files.sha256_of(files.path_of(sop_instance_uid)) == listed.sha256


def _report(promise: Promise, references: Sequence[Reference], failed: dict[str, int]) -> Report:
    return Report(
        promise.transaction_uid,
        tuple(one for one in references if one.sop_instance_uid not in failed),
        tuple((one, failed[one.sop_instance_uid]) for one in references if one.sop_instance_uid in failed),
    )


def _put_off(
    promise: Promise, why: str, database: Database, wait_s: Callable[[int], float], patience: timedelta
) -> str:
    from storage import promises
    from storage.promises import PromiseState

    now = datetime.now(UTC)
    with database.begin() as connection:
        if now - promise.asked_at > patience:
            promises.abandon_promise(connection, promise, reason=why)
            LOG.error("commitment: %s was not told what we keep: %s", promise.peer, why)
            return PromiseState.ABANDONED
        next_try_at = now + timedelta(seconds=wait_s(promise.attempts))
        promises.postpone_promise(connection, promise, reason=why, next_try_at=next_try_at)
    LOG.warning("commitment: the report to %s waits: %s", promise.peer, why)
    return PromiseState.WAITING
