"""The registry: cards that describe components, by kind and name."""
