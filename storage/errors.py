"""Faults of storage, named by what can be done about them."""


class StorageFault(Exception):
    """A fault raised by the storage package."""


class StorageFull(StorageFault):
    """The disk is full or does not take the write; free space, then try again."""


class StoreAway(StorageFull):
    """The object store does not answer or refuses us; what waits for it is tried again until it does."""


class ObjectUnfit(StorageFull):
    """An object is not in the store, or not yet, or is not what was put there; after some tries somebody must look."""


class DatabaseAway(StorageFault):
    """The database cannot be reached or is held by another for too long; the same call works once it is back."""


class InstanceConflict(StorageFault):
    """The same SOP Instance UID arrived with other bytes; the first copy is kept."""


class StaleState(StorageFault):
    """Another process moved the job first; look again."""


class IllegalTransition(StorageFault):
    """What was asked for is no legal move from where the job or delivery stands; nothing was changed."""


class AuditBroken(StorageFault):
    """The audit's hash chain does not hold; the message names the first broken row."""
