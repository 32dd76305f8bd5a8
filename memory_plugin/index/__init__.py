"""Qdrant, embedded and served, behind one protocol."""
