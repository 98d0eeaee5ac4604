"""The page and the picture of an architecture search; see `jdd.tasks.nas`."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

from jdd.report import plots
from jdd.report.outcome import percent, table
from jdd.tasks.nas import FULL, name

_WORDS = {
    "distilled": "distilled set",
    "random": "random real images",
    "early": "early stopping",
    FULL: "all real images",
}
_NAMED = 3
_CHANCES = 1.3  # a network that is right no more often than this many times by chance guesses


def page(result: Mapping[str, Any]) -> str:
    """The result for a reader, as Markdown."""
    head = (
        *("trained on", "networks", "seconds", "% of full time", "best network"),
        *("its test accuracy (%)", "Spearman with full (95 %)"),
    )
    low, high = (percent(value) for value in result["full_accuracy_range"])
    parts = [
        f"# Architecture search on {result['dataset']}: {result['method']}, "
        f"{result['ipc']} per class\n",
        table(head, [_ranking(result, kind) for kind in _WORDS]),
        f"\n{result['candidates']} networks of {result['settings']['space']}, "
        f"{result['sampled']} of them trained on all real images: {low} to {high} % on "
        f"validation. {_skipped(result['skipped'])}"
        f"Compiling {result['programs']} programs took {result['compile_seconds']:.0f} s more. "
        "Seconds are of training alone. The interval is the percentile bootstrap over networks.",
    ]
    if result["resumed_from"]:
        parts.append(
            f"\n{result['resumed_from']} of the trainings are from an earlier command: what is "
            "said of compiling is of the last one alone."
        )
    parts += guessing(result)
    if result["spearman_top"] is not None:
        tops = "; ".join(f"{_WORDS[k]} {_interval(v)}" for k, v in result["spearman_top"].items())
        parts.append(f"\nOver the best tenth in full training: {tops}.")
    rows = [
        (name(line["options"]), *(_cell(line[kind]) for kind in _WORDS))
        for line in sorted(result["networks"], key=lambda line: -(line[FULL] or 0))
    ]
    parts.append("\nAccuracy on the validation split (%):\n")
    parts.append(table(("network", *_WORDS.values()), rows))
    return "\n".join(parts)


def guessing(result: Mapping[str, Any]) -> list[str]:
    """A warning for every ranking in which a third of the networks has learned next to nothing."""
    warnings = []
    for kind in result["spearman"]:
        values = [line[kind] for line in result["networks"] if line[kind] is not None]
        low = sum(value < _CHANCES / result["classes"] for value in values)
        if 3 * low >= len(values) > 0:
            warnings.append(
                f"\n{low} of {len(values)} networks only guess ({_WORDS[kind]}): more epochs, or "
                "a smaller batch, would rank them better."
            )
    return warnings


def picture(result: Mapping[str, Any]) -> Figure:
    """Accuracy on each proxy over that in full training."""
    lines = [line for line in result["networks"] if line[FULL] is not None]
    full = [100 * line[FULL] for line in lines]
    return plots.scatter(
        {
            _label(result, kind): (full, [100 * line[kind] for line in lines])
            for kind in result["spearman"]
        },
        "accuracy trained on all real images, %",
        "accuracy trained on the proxy, %",
        f"{len(lines)} networks of {result['settings']['space']} on {result['dataset']}, "
        "validation images",
    )


def _ranking(result: Mapping[str, Any], kind: str) -> tuple[str, ...]:
    """The row of what networks are ranked by."""
    full = kind == FULL
    seconds = result["full_seconds"] if full else result["proxy_seconds"][kind]
    return (
        _WORDS[kind],
        str(result["sampled"] if full else result["candidates"]),
        f"{seconds:.1f}",
        "" if full else percent(result["fraction_of_full_time"][kind]),
        name(result["best"][kind]),
        percent(result["best_accuracy"][kind]),
        "" if full else _interval(result["spearman"][kind]),
    )


def _skipped(names: Sequence[str]) -> str:
    if not names:
        return ""
    more = f" and {len(names) - _NAMED} more, which nas.json names" if len(names) > _NAMED else ""
    return (
        f"{len(names)} networks of the space do not fit the images: {'; '.join(names[:_NAMED])}"
        f"{more}. "
    )


def _interval(correlation: Mapping[str, float | None]) -> str:
    value, low, high = (correlation[part] for part in ("value", "low", "high"))
    return "–" if value is None else f"{value:.2f} ({low:.2f} to {high:.2f})"


def _cell(value: float | None) -> str:
    return "–" if value is None else percent(value)


def _label(result: Mapping[str, Any], kind: str) -> str:
    value = result["spearman"][kind]["value"]
    return _WORDS[kind] + ("" if value is None else f": Spearman {value:.2f}")
