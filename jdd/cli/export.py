"""`export.py RUN`: a stored set in a format that other programs read."""

from collections.abc import Sequence
from pathlib import Path

from jdd.cli import flags
from jdd.cli.parser import Parser, in_flags
from jdd.cli.platform import tune_xla
from jdd.cli.program import Stopper, print_json, run_script
from jdd.errors import UserError

DESCRIPTION = (
    "Writes a stored set in a format that other programs read, with a README that says how to load "
    "it and train on it, and a train.py for PyTorch. The real data is needed only for the pixels "
    "of a set with ZCA, where the cache directory has no whitening of its images; formats other "
    "than png are written without pixels where the data is missing, too."
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
        help="a file that ends in .npz or .safetensors, or a folder that does not exist yet",
    )
    parser.add_argument(
        "--format",
        metavar="NAME",
        help="npz, safetensors, png (a folder of pictures), huggingface (a folder for its datasets "
        "library), pt (a folder of .pt files as published code has them), jdd (the set as jdd "
        "stores it) or jdd8 (the same in 8 bits a number, a quarter of the size) (default: by the "
        "ending of --to, for a folder png)",
    )
    parser.add_argument(
        "--which", default="best", metavar="best|last", help="set of the run (default: best)"
    )
    args = parser.parse_args(arguments)

    from jdd import interop, preprocessing
    from jdd.runs import RunResult
    from jdd.runs.directory import LAST
    from jdd.runs.problem import dataset_of, read_set
    from jdd.synthetic import ready

    if args.which not in ("best", "last"):
        raise UserError(f"`which` '{args.which}': best or last")
    kind = interop.format_of(Path(args.to), args.format)
    flags.load_plugins(args)
    run = Path(args.set)
    if run.name == "synthetic":
        run = run.parent
    place = run / LAST if args.which == "last" else run
    stored = read_set(place)
    preprocess = preprocessing.from_spec(stored.info.preprocessing)
    without = ""
    if preprocess is None and kind in interop.WITH_PIXELS:
        try:
            preprocess = dataset_of(stored, place, args.data_dir).preprocess
        except UserError as error:
            why = str(error)
            if kind == "png":
                raise interop.no_pixels(stored, why) from None
            without = f"without pixels: they need {interop.lacking(stored)} ({in_flags(why)})"
    result = None
    figures = ready.resolve(run) / "result.json"
    if args.which == "best" and figures.is_file():
        result = RunResult.load(figures)
    path = interop.export(stored, preprocess, Path(args.to), kind, result)
    count = stored.images.shape[0]
    print(f"{count} images of {stored.info.dataset}: {path}")
    if without:
        print(without)
    if args.json:
        print_json({"path": str(path), "images": count, "dataset": stored.info.dataset})
