"""Suppressions: one detection from the many overlapping boxes of an object."""
