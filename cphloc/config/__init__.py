"""YAML with source positions, constructor signatures and validation messages; independent of models and torch."""
