"""The end of a run: its last set and pictures are stored, and its sets tested."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import jax

from jdd.distillation import Outcome
from jdd.methods import registry
from jdd.report import pictures
from jdd.runs import directory as rundir
from jdd.runs.evaluating import evaluate_outcome
from jdd.runs.problem import Problem
from jdd.runs.result import RunResult, machine


def conclude(
    problem: Problem, outcome: Outcome, out: Path, should_stop: Callable[[], bool]
) -> RunResult:
    """Tests what a run in `out` has come to; the time it took is not known here.

    Raises:
      Interrupted: `should_stop()` said so.
      UserError: something cannot be written.
    """
    settings = problem.settings
    outcome.final.save(out / rundir.LAST, lambda: rundir.forget_result(out))
    result = evaluate_outcome(problem, outcome, should_stop)
    accuracy = result.best.accuracy.mean
    which = f"best, at iteration {outcome.best_iteration}: " if settings.iterations else ""
    words = f"{which}{100 * accuracy:.1f} % on test images, {outcome.best.storage_in_words()}"
    preprocess = problem.dataset.preprocess
    pictures.save_picture(out / "images" / "best.png", outcome.best, preprocess, words)
    pictures.save_course(out / "images")
    return dataclasses.replace(
        result,
        is_coreset=registry.entry(settings.method).is_coreset,
        note=settings.note,
        out=str(out),
        devices=len(outcome.final.labels.sharding.device_set),
        device_kind=jax.devices()[0].device_kind,
        machine=machine(),
    )
