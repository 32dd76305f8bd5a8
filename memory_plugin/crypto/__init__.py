"""Envelope, key ring, keyed terms and tags, vector rotation: docs/sealed-format.md in code."""
