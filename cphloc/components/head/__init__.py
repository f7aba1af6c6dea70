"""Heads: pyramid to raw output, its loss and its prediction."""
