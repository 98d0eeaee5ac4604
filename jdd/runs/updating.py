"""The updates of runs: what their loops are connected to."""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jdd import checkpoints, randomness
from jdd.distillation import Hooks, Listener, Listeners, Loop, Outcome, Start, distill_many
from jdd.experts import ExpertStore, SegmentSampler
from jdd.report.console import ProgressBar, say
from jdd.runs.directory import RunFiles
from jdd.runs.evaluating import validator
from jdd.runs.problem import Problem
from jdd.runs.settings import RunSettings
from jdd.runs.watch import Watch
from jdd.synthetic import SyntheticSet

MakeListener = Callable[[RunSettings, Path], Listener]
"""makes the listener of a run from its settings and its directory, before the run writes there"""


class Job(NamedTuple):
    """One of the runs that are made together."""

    problem: Problem
    out: Path
    stored: Mapping[str, Any]  # what settings.json is to hold
    command: str


def distil(
    jobs: Sequence[Job],
    starts: Sequence[SyntheticSet],
    store: ExpertStore | None,
    should_stop: Callable[[], bool],
    listeners: Sequence[Sequence[Listener]],
) -> list[Outcome]:
    """Runs the loop of all jobs side by side, from the sets that they start with.

    Args:
      jobs: of one method, their directories locked and claimed.
      starts: the set of each.
      store: experts; None where the method needs none.
      should_stop: asked often; once it is true the states are stored and `Interrupted` raised.
      listeners: each run's further ones.
    """
    first, settings = jobs[0].problem, jobs[0].problem.settings
    several = len(jobs) > 1
    with ProgressBar("updates") as bar, ProgressBar("epochs before the first update") as before:
        runs = []
        for job, start, run_listeners in zip(jobs, starts, listeners, strict=True):
            problem, is_first = job.problem, job is jobs[0]
            watch = Watch(job.out, problem, bar if is_first else None, several)
            hooks = Hooks(
                evaluate=validator(problem, should_stop),
                segments=_segments(problem, store),
                preparing=before.at,
                listener=RunFiles(job.out, Listeners(watch, *run_listeners)),
                should_stop=should_stop,
            )
            runs.append(Start(start, randomness.key(problem.settings.seed, "method"), hooks))
        loop = Loop(settings.iterations, settings.evaluation.eval_every, settings.loop.chunk)
        return distill_many(first.method, runs, first.real_data(), loop)


@contextlib.contextmanager
def listening(
    jobs: Sequence[Job], makers: Sequence[MakeListener]
) -> Iterator[list[list[Listener]]]:
    """Each run's further listeners, which are told that it ends where the block raises.

    Raises:
      UserError: what a user's file raises when it makes one.
    """
    made: list[list[Listener]] = [[] for _ in jobs]
    try:
        for job, run_listeners in zip(jobs, made, strict=True):
            for make in makers:
                run_listeners.append(make(job.problem.settings, job.out))
        yield made
    except BaseException:
        for listener in (each for run_listeners in made for each in run_listeners):
            listener.ended(None)
        raise


def say_where(problem: Problem, out: Path) -> None:
    """Says where a run resumes."""
    if states := checkpoints.StateCheckpoints(out / "state").iterations():
        say(f"resuming from iteration {states[-1]} of {problem.settings.iterations}")


def _segments(problem: Problem, store: ExpertStore | None) -> SegmentSampler | None:
    window = problem.method.needs.segments
    if store is None or window is None:
        return None
    count = problem.settings.experts.num_experts
    return SegmentSampler(store, window, experts=count, seed=problem.settings.seed)
