"""The flags of `import_published.py`."""

import argparse
from typing import Any

from jdd.cli import flags
from jdd.cli.parser import Parser, above_zero, add_settings, at_least, chosen, integer, number
from jdd.errors import SettingError

USAGE = "%(prog)s FILE [FILE ...] --dataset NAME --preprocessing KIND --out DIR [flags]"
DESCRIPTION = """\
Reads a synthetic set, or expert trajectories, of a published repository. What kind of file it is,
is seen from its content:

  images_best.pt, with labels_best.pt and lr_best.pt next to it  MTT, TESLA, DATM, PAD
  res_*.pt         DC, DSA, DM, DataDAM
  data*.pt         IDC, NCFM (with --factor)
  checkpoint_*     FRePo, RCIG
  replay_buffer_*.pt, any number of them   experts of MTT, TESLA, FTD, DATM, PAD

A directory stands for its experts, or else for the set in it. .pt files need PyTorch; nothing in
them is run. What no file says, the flags do: the dataset, and how its images were preprocessed.
The set goes to evaluate.py, export.py and --init; the experts to distill.py --experts.
"""
PREPROCESSING = (
    "standard: by mean and std (DC, DSA, DM, DataDAM; grey images everywhere); zca: --zca of MTT, "
    "TESLA, DATM, PAD; normalize_zca: colour images of FRePo and RCIG"
)
# Of the experts' settings, those that a file says, or that published code lacks.
_NOT_ASKED = {"num_experts", "train_epochs", "expert_seed", "real_images", "epoch_steps"}
_NOT_ASKED |= {"curriculum", "initial_fraction", "full_from_epoch", "first_drop_epoch"}
_NOT_ASKED |= {"second_drop_epoch", "first_drop_fraction", "second_drop_fraction"}
OF_SETS = {"number", "mean", "std", "temperature", "factor"}


def make_parser() -> Parser:
    """The script's parser; flags of one kind of file alone are in the namespace where given."""
    from jdd.preprocessing import KINDS

    parser = Parser(prog="import_published.py", usage=USAGE, description=DESCRIPTION)
    parser.formatter_class = lambda prog: argparse.RawDescriptionHelpFormatter(
        prog, max_help_position=34, width=100
    )
    parser.add_argument(
        "files", metavar="FILE", nargs="+", help="of a repository, or a directory of them"
    )
    parser.add_argument("--dataset", required=True, metavar="NAME", help="as in distill.py")
    parser.add_argument(
        "--preprocessing", required=True, metavar="|".join(KINDS), help=PREPROCESSING
    )
    parser.add_argument(
        "--out", required=True, metavar="DIR", help="a directory that does not exist yet"
    )
    parser.add_argument(
        "--image-size", type=integer, metavar="N", help="that images were resized to, in pixels"
    )
    parser.add_argument(
        "--method",
        metavar="NAME",
        help="a set's: a note of what made it; experts': the method whose preset paper has the "
        "settings below that are not given (default: published, of experts mtt)",
    )
    flags.add_data_dir(parser)
    flags.add_plugins(parser)
    flags.add_json(parser)
    _add_set_flags(parser)
    _add_expert_flags(parser)
    return parser


def _add_set_flags(parser: Parser) -> None:
    group = parser.add_argument_group("of a set")

    def add(flag: str, kind: Any, metavar: str, words: str) -> None:
        group.add_argument(flag, type=kind, metavar=metavar, default=argparse.SUPPRESS, help=words)

    add("--number", at_least(1), "N", "which of a file's sets, from 1 (default: the last)")
    of_pixels = "where they are pixels themselves, as of IDC and NCFM"
    for name, usual in (("mean", 0), ("std", 1)):
        words = f"{name} of each channel that pixels from 0 to 1 were normalised by; the images are"
        words += f" converted (default: the dataset's here; {usual} {of_pixels})"
        add(f"--{name}", _numbers, "X,X,X", words)
    words = "label logits are FRePo's and RCIG's labels divided by it (default: 0.4 and 10)"
    add("--temperature", above_zero, "X", words)
    words = "a stored image holds N × N smaller ones, as IDC and NCFM have it (default: 1)"
    add("--factor", at_least(1), "N", words)
    title = (
        "recipe that is written on a set; network and its options are the experts' too. Where not "
        "given, the augmentation is the dataset's DSA; FRePo and RCIG have WideConvNet, AdamW "
        "0.0003, cosine, and mirror images"
    )
    flags.add_recipe_flags(parser, without=("equal_batches",), title=title, default="")


def _add_expert_flags(parser: Parser) -> None:
    from jdd.experts import ExpertSettings
    from jdd.settings import defaults, helps

    values = {k: v for k, v in defaults(ExpertSettings).items() if k not in _NOT_ASKED}
    template = "default: {}, or the method's"
    add_settings(parser, "how experts were trained", values, helps(ExpertSettings), template)


def refuse(args: argparse.Namespace, names: Any, why: str) -> None:
    """Raises `SettingError` for a flag that says nothing of the kind of file at hand."""
    for name, value in chosen(args, names).items():
        raise SettingError(name, value, f"{why}, leave it out")


def _numbers(text: str) -> list[float]:
    return [number(part) for part in text.split(",")]
