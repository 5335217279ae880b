"""The plug-in point: one file, one pipeline; the file's name is the pipeline's name everywhere."""
