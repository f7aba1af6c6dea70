"""Build data sets from their public sources, as far as these allow: a module each, with a function ``build``."""
