"""`measure_accelerator.py`: all that is to be known of a GPU or TPU, in parts of nine minutes."""

import os
import time
from collections.abc import Sequence
from pathlib import Path

from jdd.cli import flags
from jdd.cli.parser import Parser, above_zero, names
from jdd.cli.program import Stopper, print_json, run_script
from jdd.errors import Interrupted, SettingError, UserError

NAME = "measure_accelerator"
DESCRIPTION = (
    "Measures jdd on whatever JAX sees, part by part: the tests against published code, every "
    "step's time and memory alongside PyTorch's (where it is installed), the same in bfloat16, and "
    "the papers' runs on CIFAR-10 as far as they come. Each part stops by its own deadline, says "
    "what it left out, and leaves a JSON file and a line of table.md in --out. The same command "
    "makes what is missing."
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the script and returns its exit code."""
    return run_script(lambda stopper: _work(arguments, stopper), "the same command")


def _work(arguments: Sequence[str] | None, stopper: Stopper) -> None:
    began = time.monotonic()
    args = _parser().parse_args(arguments)

    import jax

    # The accelerator has to be free for the programs that measure; they see all of it.
    jax.config.update("jax_platforms", "cpu")
    from jdd import data
    from jdd.benchmarks import accelerator, cases
    from jdd.errors import unknown_value
    from jdd.report.console import say

    data.check_name(args.dataset)
    for part in args.parts or ():
        if part not in accelerator.NAMES:
            raise unknown_value("parts", part, accelerator.NAMES)
    wanted = tuple(args.parts or accelerator.NAMES)
    chosen = accelerator.CASES if args.cases is None else tuple(args.cases)
    for case in chosen:
        cases.case(case)
    work, place = Path(args.work), args.data_dir or os.environ.get("JDD_DATA_DIR", "")
    if place and not Path(place).is_dir():
        raise SettingError("data_dir", place, "no such directory")
    if place and args.dataset == "cifar10":
        place = str(accelerator.binary_version(Path(place), work / "data"))
    plan = accelerator.Plan(
        out=Path(args.out),
        work=work / "trial" if args.trial else work / "runs",
        dataset=args.dataset,
        data_dir=place,
        cases=chosen,
        peer="torch" if accelerator.has_torch() else "none",
        trial=args.trial,
    )
    parts = accelerator.run_parts(wanted, plan, args.minutes, stopper, say)
    if (plan.out / accelerator.TABLE).exists():
        print((plan.out / accelerator.TABLE).read_text(encoding="utf-8"))
    if stopper():
        raise Interrupted
    if args.json:
        seconds = round(time.monotonic() - began, 2)
        print_json({"task": NAME, "parts": parts, "seconds": seconds})
    if failed := [name for name, part in parts.items() if part["failed"]]:
        raise UserError(f"{', '.join(failed)}: something failed; what it said is above")


def _parser() -> Parser:
    parser = Parser(prog="measure_accelerator.py", description=DESCRIPTION)
    add = parser.add_argument
    words = "parity,speed,precision,trajectories,gradients,features (default: all, in this order)"
    add("--parts", type=names, metavar="NAMES", help=words)
    words = "that each part may take (default: 9)"
    add("--minutes", type=above_zero, default=9.0, metavar="X", help=words)
    words = "results: at most eight small files (default: accelerator)"
    add("--out", default="accelerator", metavar="DIR", help=words)
    words = "experts and runs, to resume from (default: checkpoints/accelerator)"
    add("--work", default="checkpoints/accelerator", metavar="DIR", help=words)
    words = "of the runs (default: cifar10)"
    add("--dataset", default="cifar10", metavar="NAME", help=words)
    words = "of speed and precision, as benchmark.py --help lists them (default: all)"
    add("--cases", type=names, metavar="NAMES", help=words)
    words = "everything as small as it can be, to see that all parts run; nothing is measured"
    add("--trial", action="store_true", help=words)
    flags.add_data_dir(parser)
    flags.add_json(parser)
    return parser
