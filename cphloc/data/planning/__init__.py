"""Plan a recipe for a data set from a survey of its cases."""
