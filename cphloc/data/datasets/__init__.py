"""Data sets: one file each, found by their cards in ``registry/dataset``."""
