"""Build, check and describe the model of a recipe."""
