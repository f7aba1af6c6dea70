"""Functions on tensors, the same in 2-D and 3-D."""
