"""Metal artifact reduction, every method by three protocols: tables and pictures (python -m benchmarks.mar)."""
