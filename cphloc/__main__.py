"""``python -m cphloc`` runs the command line."""

import sys

from cphloc.cli import main

if __name__ == "__main__":
    sys.exit(main())
