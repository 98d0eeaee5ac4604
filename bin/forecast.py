#!/usr/bin/env python3
"""See `python bin/forecast.py --help`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from jdd.cli.forecast import main

if __name__ == "__main__":
    sys.exit(main())
