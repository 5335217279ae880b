"""The conformance statement (PS3.2), made from what the node runs by, so that it cannot say anything else."""
