"""Scripts that other environments run: each predicts with one framework. None imports cphloc."""
