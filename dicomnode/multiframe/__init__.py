"""Multi-frame instances in: each frame as a single-frame image."""
