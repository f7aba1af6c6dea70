"""Data sets, one module each; their cards are in ``registry/dataset``."""
