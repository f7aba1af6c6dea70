"""Metrics, each with its interval."""
