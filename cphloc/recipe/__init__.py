"""Recipes, which declare a data set, a model and its training in YAML: load, merge, check, migrate."""
