"""A model measured against the truth: scores, baselines, validation, pictures."""
