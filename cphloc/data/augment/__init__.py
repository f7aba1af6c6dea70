"""Random transforms of training patches: geometry and intensity."""
