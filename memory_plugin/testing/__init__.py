"""Doubles that discriminate, and conformance classes to inherit."""
