"""A whole model as data: merge, blocks, checks, schema."""
