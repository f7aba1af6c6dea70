"""Losses of the heads."""
