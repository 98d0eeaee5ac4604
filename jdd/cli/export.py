"""`export.py RUN`: a stored set as an NPZ file or a folder of PNGs."""

from collections.abc import Sequence
from pathlib import Path

from jdd.cli.arguments import Parser, tune_xla
from jdd.cli.program import Stopper, print_json, run_script

DESCRIPTION = (
    "Writes a stored set in a format that other programs read: one .npz file with everything in "
    "it, or a folder of PNGs with labels.csv."
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the script and returns its exit code."""
    tune_xla()
    return run_script(lambda stopper: _work(arguments, stopper))


def _work(arguments: Sequence[str] | None, stopper: Stopper) -> None:
    del stopper
    parser = Parser(prog="export.py", description=DESCRIPTION)
    parser.add_argument("set", metavar="RUN", help="a run's directory, or its synthetic/ folder")
    parser.add_argument(
        "--to",
        required=True,
        metavar="PATH",
        help="a file that ends in .npz, or a folder that is not there yet",
    )
    parser.add_argument(
        "--data-dir",
        metavar="DIR",
        help="where the data set's files are, which tell the way back to pixels (default: "
        "JDD_DATA_DIR, else TensorFlow Datasets)",
    )
    parser.add_argument(
        "--json", action="store_true", help="print the result as one JSON object, the last line"
    )
    given = parser.parse_args(arguments)

    from jdd.interop import to_folder, to_npz
    from jdd.runs import pipeline
    from jdd.synthetic import SyntheticSet

    stored = SyntheticSet.load(given.set)
    dataset = pipeline.dataset_of(stored, given.set, given.data_dir)
    path = Path(given.to)
    write = to_npz if path.suffix == ".npz" else to_folder
    write(stored, dataset.preprocess, path)
    count = stored.images.shape[0]
    print(f"{count} images of {stored.info.dataset}: {path}")
    if given.json:
        print_json({"path": str(path), "images": count, "dataset": stored.info.dataset})
