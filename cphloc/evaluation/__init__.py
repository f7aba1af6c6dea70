"""Evaluation of models: scores, baselines, validation during training, and pictures."""
