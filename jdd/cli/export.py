"""`export.py RUN`: a stored set as an NPZ file or a folder of PNGs."""

from collections.abc import Sequence
from pathlib import Path

from jdd.cli import flags
from jdd.cli.parser import Parser
from jdd.cli.platform import tune_xla
from jdd.cli.program import Stopper, print_json, run_script
from jdd.errors import SettingError

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
    flags.add_set_flags(parser)
    parser.add_argument(
        "--to",
        required=True,
        metavar="PATH",
        help="a file that ends in .npz, or a folder that does not exist yet",
    )
    args = parser.parse_args(arguments)

    from jdd.interop import to_folder, to_npz

    stored, dataset = flags.load_set(args)
    path = Path(args.to)
    if path.suffix not in ("", ".npz") and not path.is_dir():
        raise SettingError("to", path, "a file ends in .npz, and a new folder's name has no ending")
    write = to_npz if path.suffix == ".npz" else to_folder
    write(stored, dataset.preprocess, path)
    count = stored.images.shape[0]
    print(f"{count} images of {stored.info.dataset}: {path}")
    if args.json:
        print_json({"path": str(path), "images": count, "dataset": stored.info.dataset})
