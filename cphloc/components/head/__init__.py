"""Heads: pyramid to outputs, its loss and its prediction."""
