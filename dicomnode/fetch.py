"""What the node fetches by itself: what waiting jobs need, and what `[[retrieve]]` asks for."""

from __future__ import annotations

from collections.abc import Callable

from dicomnode.config import Config
from dicomnode.errands import Turns
from dicomnode.fetching import Fetcher
from dicomnode.polling import Poller
from dicomnode.service import Happening
from dicomnode.stores import Stores
from dicomnode.supply import Supplier


class Fetch:
    """One call looks once; whoever is asked is asked on a thread of its own."""

    def __init__(
        self, config: Callable[[], Config], stores: Stores, *, tell: Happening, filled: Callable[[], None]
    ) -> None:
        """config: the one in force, asked each time; tell: the audit; filled: told that a job may be ready."""
        turns = Turns()

        def fetcher() -> Fetcher:
            node = config().node
            return Fetcher(
                ae_title=node.ae_title,
                files=stores.files,
                maximum_bytes=node.maximum_instance_bytes,
                happened=tell,
                identity=config().tls,
                turns=turns,
            )

        self._supplier = Supplier(config, stores.database, fetcher, tell=tell, filled=filled)
        self._poller = Poller(config, stores.database, fetcher, tell=tell)

    def __call__(self) -> None:
        """Waiting jobs get what they need; peers whose time has come are asked for what is new."""
        self._supplier()
        self._poller()
