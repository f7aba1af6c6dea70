"""``python -m cphloc.cli`` runs the command line."""

import sys

from cphloc.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
