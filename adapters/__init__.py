"""Adapters: one file a framework, public names of the core only."""
