"""YAML with positions, signatures and problems; knows nothing of models."""
