"""``python -m cphloc.cli`` runs the command line."""

import sys

from cphloc.cli.main import main

sys.exit(main())
