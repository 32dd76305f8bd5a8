"""The pipeline, one file an arrow."""
