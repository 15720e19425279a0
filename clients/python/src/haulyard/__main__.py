"""`python -m haulyard`: the command line."""

import sys

from haulyard.cli.main import main

sys.exit(main())
