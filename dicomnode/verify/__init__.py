"""The same rules asked of a folder of files, with or without a node."""
