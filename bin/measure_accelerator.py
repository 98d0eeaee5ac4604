#!/usr/bin/env python3
"""See `python bin/measure_accelerator.py --help`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from jdd.cli.measure_accelerator import main

if __name__ == "__main__":
    sys.exit(main())
