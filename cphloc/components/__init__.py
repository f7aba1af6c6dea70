"""Registered components: one file, one component."""
