"""How a series enters, goes and leaves: receive, gather, route, work (load, inference, derive), send."""
