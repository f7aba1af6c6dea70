"""From a recipe to a model: build, describe, advise."""
