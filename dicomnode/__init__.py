"""How a series enters, where it goes and how it leaves: receive, gather, route, work (load, inference, derive), send."""
