"""Training runs on disk, and logging to MLflow."""
