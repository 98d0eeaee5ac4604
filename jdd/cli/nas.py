"""`nas.py RUN`: searches for an architecture on a stored set."""

import argparse
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jdd.cli.arguments import Parser, add_settings, settings_words, tune_xla
from jdd.cli.common import add_task_flags, load_set, task_directory
from jdd.cli.program import Stopper, print_json, run_script
from jdd.errors import Interrupted, UserError

if TYPE_CHECKING:
    from jdd.synthetic import SyntheticSet
    from jdd.tasks.proxies import Training

DESCRIPTION = (
    "Draws networks from a search space and ranks them by training each on the stored set, on as "
    "many random real images, and on all real images for as many steps (early stopping). Compares "
    "each ranking with that of training on all real images to the end, by Spearman's rank "
    "correlation, and tests the best network of each. Rankings are made on a validation split of "
    "the training images; on the test images only the best are tested. Every finished training is "
    "a line of nas.jsonl in --out, from which --resume goes on, also with more --candidates, "
    "--sample or --repeats."
)
LINES = "nas.jsonl"
_NAMED = 3
_CHANCES = 1.3  # a network that is right no more often than this many times by chance guesses


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the script and returns its exit code."""
    tune_xla()
    return run_script(lambda stopper: _work(arguments, stopper), again="--resume")


def _work(arguments: Sequence[str] | None, stopper: Stopper) -> None:
    import dataclasses

    began = time.monotonic()
    from jdd.tasks.proxies import NasSettings

    parser = Parser(prog="nas.py", description=DESCRIPTION)
    add_task_flags(parser, "nas")
    again = parser.add_mutually_exclusive_group()
    again.add_argument("--resume", action="store_true", help="go on from the trainings in --out")
    again.add_argument("--overwrite", action="store_true", help="do away with those in --out")
    fields: dict[str, Any] = {f.name: f.default for f in dataclasses.fields(NasSettings)}
    add_settings(parser, "search settings", fields, settings_words([NasSettings]))
    given = parser.parse_args(arguments)
    settings = NasSettings(**{name: getattr(given, name, fields[name]) for name in fields})
    settings.check()

    from jdd import storage
    from jdd.report import outcome
    from jdd.report.console import Stage, say
    from jdd.tasks import nas
    from jdd.tasks.proxies import Bench, Training

    stored, dataset = load_set(given)
    seed = stored.info.seed if given.seed is None else given.seed
    found = nas.plan(settings, dataset, seed)
    bench = Bench(settings, stored, dataset, seed)
    out = task_directory(given)
    header = {"search": settings.identity(), "set": _digest(stored), "seed": seed}
    known = _known(out / LINES, header, given)
    with storage.locked(out):
        if given.overwrite:
            (out / LINES).unlink(missing_ok=True)
        say(
            f"{len(found.candidates)} networks of {settings.space}, {len(found.sampled)} of them "
            "trained in full"
            + (f"; {len(found.skipped)} more do not fit {dataset.name}" if found.skipped else "")
        )

        def keep(training: Training) -> None:
            if not (out / LINES).exists():
                storage.append_line(out / LINES, header)
            storage.append_line(out / LINES, training._asdict())

        try:
            with Stage("steps") as stage:
                trainings = nas.search(
                    bench, found, settings.repeats, known, keep, stage.watched(stopper)
                )
        except Interrupted:
            if (out / LINES).exists():
                raise
            raise Interrupted("nothing is stored, no training had ended") from None
        result = {
            "task": "nas",
            "dataset": stored.info.dataset,
            "method": stored.info.method,
            "ipc": stored.info.ipc,
            "seed": seed,
            **nas.summary(found, trainings, seed),
            "classes": dataset.num_classes,
            "compile_seconds": round(bench.compile_seconds, 2),
            "programs": bench.programs,
            "resumed_from": len(known),
            "settings": dataclasses.asdict(settings),
            "set": str(given.set),
            "seconds": round(time.monotonic() - began, 2),
        }
        page = _page(result)
        files = outcome.save(out, "nas", result, page, _picture(result))
    print(page)
    for file in files:
        print(file)
    if given.json:
        print_json(result)


def _digest(stored: "SyntheticSet") -> str:
    import hashlib

    import numpy as np

    digest = hashlib.sha256()
    for leaf in (stored.images, stored.labels):
        digest.update(np.ascontiguousarray(leaf).tobytes())
    return digest.hexdigest()[:16]


def _known(
    path: Path, header: Mapping[str, Any], given: argparse.Namespace
) -> "Sequence[Training]":
    """The trainings that an earlier search has left and this one may take over."""
    import json

    from jdd import storage
    from jdd.runs.directory import differences
    from jdd.tasks.proxies import Training

    if given.overwrite or not path.exists():
        return []
    lines = path.read_text().splitlines()
    try:
        first = json.loads(lines[0])
        there = {name: first[name] for name in header}
    except (ValueError, KeyError, IndexError, TypeError):
        raise UserError(
            f"{path} is not of a search: --overwrite it, or choose another --out"
        ) from None
    different = differences(there, header)
    if different:
        raise UserError(
            f"{path} is of another search: {'; '.join(different[:4])}; --overwrite it, or choose "
            "another --out"
        )
    if not given.resume:
        raise UserError(
            f"{path} holds {len(lines) - 1} trainings already: add --resume to go on from them, "
            "--overwrite to do away with them, or choose another --out"
        )
    storage.keep_lines(path, lambda line: line == first or bool(Training(**line)))
    return [Training(**json.loads(line)) for line in path.read_text().splitlines()[1:]]


_WORDS = {
    "distilled": "distilled set",
    "random": "random real images",
    "early": "early stopping",
    "full": "all real images",
}


def _page(result: Mapping[str, Any]) -> str:
    from jdd.report.outcome import percent, table
    from jdd.tasks.search_spaces import name

    rows = []
    for kind, words in _WORDS.items():
        seconds = result["full_seconds"] if kind == "full" else result["proxy_seconds"][kind]
        found = result["spearman"].get(kind)
        rows.append(
            (
                words,
                result["sampled"] if kind == "full" else result["candidates"],
                f"{seconds:.1f}",
                "" if kind == "full" else f"{100 * result['share_of_full_time'][kind]:.1f}",
                name(result["best"][kind]),
                percent(result["best_accuracy"][kind]),
                "" if found is None else _interval(found),
            )
        )
    head = (
        *("trained on", "networks", "seconds", "% of full time", "best network"),
        *("its test accuracy (%)", "Spearman with full (95 %)"),
    )
    low, high = (percent(value) for value in result["full_accuracy_range"])
    parts = [
        f"# Architecture search on {result['dataset']}: {result['method']}, "
        f"{result['ipc']} images per class\n",
        table(head, rows),
        f"\n{result['candidates']} networks of {result['settings']['space']}, "
        f"{result['sampled']} of them trained on all real images: {low} to {high} % on "
        f"validation. {_skipped(result['skipped'])}"
        f"Compiling {result['programs']} programs took {result['compile_seconds']:.0f} s more. "
        "Seconds are of training alone. The interval is the percentile bootstrap over networks.",
    ]
    if result["resumed_from"]:
        parts.append(
            f"\n{result['resumed_from']} of the trainings were there from an earlier command: "
            "what is said of compiling is of the last one alone."
        )
    parts += _at_chance(result)
    if result["spearman_top"] is not None:
        tops = "; ".join(f"{_WORDS[k]} {_interval(v)}" for k, v in result["spearman_top"].items())
        parts.append(f"\nOver the best tenth in full training: {tops}.")
    shown = [
        (name(line["options"]), *(_cell(line[kind]) for kind in _WORDS))
        for line in sorted(result["networks"], key=lambda line: -(line["full"] or 0))
    ]
    parts.append("\nAccuracy on the validation split (%):\n")
    parts.append(table(("network", *_WORDS.values()), shown))
    return "\n".join(parts)


def _at_chance(result: Mapping[str, Any]) -> list[str]:
    """A warning for every ranking in which a third of the networks has learned next to nothing."""
    found = []
    for kind in result["spearman"]:
        values = [line[kind] for line in result["networks"] if line[kind] is not None]
        low = sum(value < _CHANCES / result["classes"] for value in values)
        if 3 * low >= len(values) > 0:
            found.append(
                f"\n{low} of {len(values)} networks only guess ({_WORDS[kind]}): more --epochs, or "
                "a smaller --batch, would rank them better."
            )
    return found


def _skipped(names: Sequence[str]) -> str:
    if not names:
        return ""
    more = f" and {len(names) - _NAMED} more, which nas.json names" if len(names) > _NAMED else ""
    return (
        f"{len(names)} networks of the space do not fit the images: {'; '.join(names[:_NAMED])}"
        f"{more}. "
    )


def _interval(found: Mapping[str, float | None]) -> str:
    if found["value"] is None:
        return "–"
    return f"{found['value']:.2f} ({found['low']:.2f} to {found['high']:.2f})"


def _cell(value: float | None) -> str:
    from jdd.report.outcome import percent

    return "–" if value is None else percent(value)


def _picture(result: Mapping[str, Any]) -> Any:
    from jdd.report import plots

    lines = [line for line in result["networks"] if line["full"] is not None]
    full = [100 * line["full"] for line in lines]
    return plots.scatter(
        {
            _label(result, kind): (full, [100 * line[kind] for line in lines])
            for kind in result["spearman"]
        },
        "accuracy trained on all real images (%, validation)",
        "accuracy trained on the proxy (%, validation)",
        f"{len(lines)} networks of {result['settings']['space']} on {result['dataset']}",
    )


def _label(result: Mapping[str, Any], kind: str) -> str:
    value = result["spearman"][kind]["value"]
    return _WORDS[kind] + ("" if value is None else f": Spearman {value:.2f}")
