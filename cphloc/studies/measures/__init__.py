"""What studies measure; every measure has its line in ``registry/measure.yaml``."""
