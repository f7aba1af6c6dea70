"""Processes, shards and clusters."""
