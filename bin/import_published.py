#!/usr/bin/env python3
"""See `python bin/import_published.py --help`."""

import os
import signal

for sent in (signal.SIGINT, signal.SIGTERM):  # until `main` listens, nothing is begun
    signal.signal(sent, lambda number, _: os._exit(128 + number))

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from jdd.cli.import_published import main

if __name__ == "__main__":
    sys.exit(main())
