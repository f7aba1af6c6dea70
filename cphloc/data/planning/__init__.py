"""A recipe from what a data set looks like."""
