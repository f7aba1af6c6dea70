"""``python -m cphloc`` runs the command line."""

import sys

from cphloc.cli import main

sys.exit(main())
