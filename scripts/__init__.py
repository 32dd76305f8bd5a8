"""Build steps for the shipped models; not part of the package."""
