"""Training: settings, optimizers, schedules, the training loop, checkpoints and fine-tuning."""
