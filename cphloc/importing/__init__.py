"""Weights of other frameworks become entries: read without running their code, renamed, and proven equal."""
