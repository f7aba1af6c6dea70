"""The record of a run, and MLflow."""
