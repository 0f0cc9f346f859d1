"""``python -m painters`` is the command line."""

import sys

from painters.cli import main

sys.exit(main())
