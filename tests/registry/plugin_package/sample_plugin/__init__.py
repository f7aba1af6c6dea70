"""A plug-in. Finding and checking its components must not import it."""

import os

if "SAMPLE_PLUGIN_MAY_BE_IMPORTED" not in os.environ:
    raise RuntimeError("the plug-in was imported without being used")
