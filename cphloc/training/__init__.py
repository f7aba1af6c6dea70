"""Training, evaluation and tracking."""
