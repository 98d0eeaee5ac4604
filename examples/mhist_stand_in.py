"""A stand-in for MHIST: its layout, its sizes, its imbalance, but images of no tissue.

MHIST may not be passed on. With this in its place, `--dataset mhist` can be timed, and its memory
measured, before the real one is at hand. Accuracies on it mean nothing.

    python examples/mhist_stand_in.py DIR
    python bin/distill.py --dataset mhist --data-dir DIR --method datadam --ipc 50 --dry-run
"""

import argparse
import csv
import sys
from pathlib import Path

import numpy as np
from PIL import Image

COUNTS = {("HP", "train"): 1545, ("SSA", "train"): 630, ("HP", "test"): 617, ("SSA", "test"): 360}
SIDE = 224
COLUMNS = (
    "Image Name",
    "Majority Vote Label",
    "Number of Annotators who Selected SSA (Out of 7)",
    "Partition",
)


def picture(rng: np.random.Generator, label: str) -> Image.Image:
    """Blots of violet on pink; finer ones for SSA."""
    blots = 14 if label == "HP" else 20
    depth = rng.beta(2, 3, (blots, blots, 1))
    pink, violet = np.array([236.0, 190.0, 215.0]), np.array([110.0, 60.0, 140.0])
    pixels = (pink + depth * (violet - pink)).astype(np.uint8)
    smooth = Image.fromarray(pixels).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    grain = rng.normal(0, 4, (SIDE, SIDE, 1))
    return Image.fromarray(np.clip(np.asarray(smooth) + grain, 0, 255).astype(np.uint8))


def main() -> None:
    """Writes the images, then the table of them."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("directory", type=Path, metavar="DIR", help="made by this; must not exist")
    parser.add_argument(
        "--divide", type=int, default=1, metavar="N", help="make an N-th of the images (default: 1)"
    )
    args = parser.parse_args()
    if args.divide < 1:
        parser.error("--divide: at least 1")
    if args.directory.exists():
        parser.error(f"{args.directory} exists already")
    rng = np.random.default_rng(0)
    images = args.directory / "images"
    images.mkdir(parents=True)
    rows = []
    for (label, partition), count in COUNTS.items():
        for number in range(count // args.divide):
            name = f"MHIST_{label}_{partition}_{number}.png"
            picture(rng, label).save(images / name)
            votes = int(rng.integers(0, 4) if label == "HP" else rng.integers(4, 8))
            rows.append((name, label, votes, partition))
    # Last, so that what was stopped half-way is no dataset.
    with (args.directory / "annotations.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([COLUMNS, *rows])
    print(f"{len(rows)} images of {SIDE}×{SIDE} in {args.directory}")


if __name__ == "__main__":
    sys.exit(main())
