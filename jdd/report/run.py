"""What scripts say of a run: its result, what it will take, its experts, its set evaluated."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jdd.evaluation import evaluated_on
from jdd.report.console import duration
from jdd.runs.result import RunResult
from jdd.synthetic import SyntheticSet, storage_in_words
from jdd.training import Accuracy, Recipe

_FALL = 0.1  # of the accuracy, which varies by some hundredths from one evaluation to the next


def summary(result: RunResult, out: Path) -> str:
    """A finished run in `out`: the accuracies, and where set and pictures are."""
    kind = "distilled images"
    if result.is_coreset:
        selection = "drawn at random" if result.method == "random" else f"chosen by {result.method}"
        kind = f"real images {selection}"
    decoded = result.storage.get("images", result.images)
    if decoded != result.images:
        kind += f", in the storage of {result.images}"
    rows = [(f"{decoded} {kind}", str(result.best.accuracy))]
    if result.final.iteration != result.best.iteration:
        rows.append(("  at the last iteration", str(result.final.accuracy)))
    if result.plain is not None:
        rows.append(("  without augmentation, hard labels", str(result.plain)))
    if result.random is not None:
        rows.append((f"{decoded} random real images", str(result.random)))
    if result.full_data is not None:
        rows.append((result.full_data_words, str(result.full_data)))
    return "\n".join(
        [
            f"test accuracy of fresh networks ({result.network}) trained on",
            *aligned(rows),
            *_stored(result),
            *_what_went_wrong(result),
            f"pictures: {out / 'images'}",
            f"set: {out / 'synthetic'}",
            f"{result.seconds:.0f} s in all",
        ]
    )


def _stored(result: RunResult) -> list[str]:
    """A line about what a set stores; none where it is not known."""
    numbers, labels = result.stored(), result.stored("labels")
    if numbers is None:
        return []
    decoder = str(result.storage.get("decoder"))
    return [f"stored: {storage_in_words(numbers, labels or 0, decoder)}"]


def _what_went_wrong(result: RunResult) -> list[str]:
    """Lines about a run that did not go as runs do: updates not made, an accuracy that fell."""
    lines = []
    if result.dropped_updates:
        lines.append(f"{result.dropped_updates} of {result.iterations} updates were dropped")
    if result.curve:
        best, last = max(result.curve, key=lambda look: look.accuracy), result.curve[-1]
        if best.accuracy - last.accuracy > _FALL:
            lines.append(
                f"THE ACCURACY FELL on {evaluated_on(result.choose)}, "
                f"from {100 * best.accuracy:.1f} % at iteration {best.iteration} to "
                f"{100 * last.accuracy:.1f} % at the last: the set of iteration "
                f"{result.best.iteration} is stored; "
                "lower `lr_img`, or make fewer `iterations`"
            )
    return lines


def several(results: Sequence[RunResult]) -> str:
    """Finished runs that differ in their seeds: the accuracy of each, and over all of them."""
    rows = [
        (f"seed {result.seed}", f"{result.best.accuracy}, set: {Path(result.out) / 'synthetic'}")
        for result in results
    ]
    first = results[0]
    for words, accuracies in (
        (f"{len(results)} seeds", [result.best.accuracy for result in results]),
        ("  without augmentation, hard labels", [result.plain for result in results]),
        ("random real images", [result.random for result in results]),
    ):
        if means := [accuracy.mean for accuracy in accuracies if accuracy is not None]:
            rows.append((words, str(Accuracy(tuple(means)))))
    if first.full_data is not None:
        rows.append((first.full_data_words, str(first.full_data)))
    seconds = sum(result.seconds for result in results)
    return "\n".join(
        [
            f"test accuracy of fresh networks ({first.network}) trained on {first.images} images",
            *aligned(rows),
            f"{seconds:.0f} s in all",
        ]
    )


def expected(costs: Mapping[str, Any]) -> str:
    """What a run will take, from what `jdd.runs.dry_run.estimate` gives."""
    seconds = costs["seconds"]
    rows = [
        ("parameters of the network", f"{costs['parameters']:,}"),
        ("numbers learned in the set", f"{costs['learned']:,}"),
    ]
    if "peak_bytes" in costs:
        rows += [
            ("memory of an update", f"{costs['peak_bytes'] / 2**20:,.0f} MiB"),
            ("time of an update", f"{costs['seconds_per_update']:.3g} s"),
            (f"{costs['iterations']} updates", duration(seconds["distilling"])),
        ]
    if "experts_bytes" in costs:
        rows += [
            ("training the experts, if there are none", duration(seconds["experts"])),
            ("  on disk", f"{costs['experts_bytes'] / 2**20:,.0f} MiB"),
        ]
    rows += [
        ("evaluating", duration(seconds["evaluating"])),
        ("in all, without compiling", duration(seconds["total"])),
    ]
    title = (
        f"{costs['method']} on {costs['dataset']}, {costs['ipc']} per class, preset "
        f"{costs['preset']}, on {costs['machine']}"
    )
    return "\n".join([title, *filter(None, [costs["note"]]), *aligned(rows)])


def trained(directory: Path, accuracies: Sequence[float], split: str) -> str:
    """The experts in `directory`, by their accuracies on these images, as `evaluated_on` has it."""
    mean = sum(accuracies) / len(accuracies)
    return f"{len(accuracies)} experts in {directory}\n  accuracy on {split} {100 * mean:.1f} %"


def evaluated(
    place: str, stored: SyntheticSet, recipe: Recipe, accuracy: Accuracy, test_images: int
) -> str:
    """A stored set's accuracy on the test images, and what it stores."""
    count, info = len(accuracy.values), stored.info
    return (
        f"{place}: {info.method} on {info.dataset}, {info.ipc} per class\n"
        f"  {accuracy} on {test_images} test images, {count} fresh network{'s' * (count > 1)} "
        f"({recipe.network})\n"
        f"  stored: {stored.storage_in_words()}"
    )


def aligned(rows: Sequence[tuple[str, str]]) -> list[str]:
    """Lines of two columns."""
    width = max(len(name) for name, _ in rows)
    return [f"  {name:<{width}}  {value}" for name, value in rows]
