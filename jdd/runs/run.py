"""A run from end to end."""

import contextlib
import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jdd import ahead, distributed, files, locks
from jdd.data.shapes import SHAPES
from jdd.errors import Interrupted, UserError
from jdd.experts import ExpertStore, open_compatible
from jdd.experts import default_directory as default_experts
from jdd.report.console import say, warn
from jdd.runs import directory as rundir
from jdd.runs import programs
from jdd.runs.conclusion import conclude
from jdd.runs.experts import ready_experts
from jdd.runs.problem import Problem, prepare, with_seed
from jdd.runs.result import RunResult
from jdd.runs.settings import RunSettings
from jdd.runs.soft_labels import with_label_logits
from jdd.runs.updating import Job, MakeListener, distil, listening, say_where
from jdd.synthetic import SyntheticSet

Stop = Callable[[], bool]
PUBLISHED_CHOICES = {
    "last": "AS PUBLISHED: no images are held out, and the last set counts",
    "test": "AS PUBLISHED: no images are held out, and the best set is chosen on the TEST images: "
    "its accuracy is too high, and compares with those of papers that choose so alone",
}


def run(
    settings: RunSettings,
    out: Path,
    *,
    data_dir: str | None = None,
    experts_dir: Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
    wait: bool = False,
    should_stop: Stop = lambda: False,
    began: float | None = None,
    command: str = "",
    listeners: Sequence[MakeListener] = (),
) -> RunResult:
    """Distils a dataset and evaluates the outcome.

    Args:
      settings: what to do.
      out: the run's directory; it then holds `synthetic/`, `state/`, `settings.json`,
        `metrics.jsonl`, `images/` and `result.json`.
      data_dir: where the dataset's files are; see `jdd.data.load`.
      experts_dir: a store of experts, used where it fits and made where there is none. By default
        one is kept next to `out` for each way of training them.
      resume: resume from the newest state in `out`, and give a finished run's result back.
      overwrite: replace a run that is in `out`.
      wait: wait for another process that writes to `out` or to the experts, instead of refusing.
      should_stop: asked often; once it is true the state is stored and `Interrupted` raised.
      began: `time.monotonic()` when the command began, if that was before this call.
      command: what makes the same run again, for the result.
      listeners: each makes a listener from the run's settings and directory, before anything is
        written, which is told of its events; `jdd.runs.tensorboard.TensorBoard` is one.

    Returns:
      What `result.json` holds.

    Raises:
      UserError: something in the settings, the data or the directories that the user can mend.
      Interrupted: see `should_stop`.
    """
    return run_seeds(
        settings,
        {settings.seed: out},
        data_dir=data_dir,
        experts_dir=experts_dir,
        resume=resume,
        overwrite=overwrite,
        wait=wait,
        should_stop=should_stop,
        began=began,
        command=lambda _: command,
        listeners=listeners,
    )[0]


def run_seeds(
    settings: RunSettings,
    outs: Mapping[int, Path],
    *,
    data_dir: str | None = None,
    experts_dir: Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
    wait: bool = False,
    should_stop: Stop = lambda: False,
    began: float | None = None,
    command: Callable[[int], str] = lambda seed: "",
    listeners: Sequence[MakeListener] = (),
) -> list[RunResult]:
    """The same run with several seeds, all updates in one program; see `run`.

    Each has its own directory, and comes to the set that `run` gives it by itself, up to rounding.

    Args:
      settings: of all but the seed.
      outs: each seed's directory.
      data_dir, experts_dir, resume, overwrite, wait, should_stop, began, listeners: as for `run`.
      command: of a seed, what makes its run again.

    Returns:
      The result of each, in order.

    Raises:
      UserError: as `run`, or a method that makes no updates is given several seeds.
      Interrupted: see `run`.
    """
    began = time.monotonic() if began is None else began
    if len(outs) > 1 and not settings.iterations:
        raise UserError(
            f"`seeds`: {settings.method} chooses real images, there are no updates to make side by "
            "side; give one `seed` at a time"
        )
    jobs = _jobs(settings, outs, data_dir, experts_dir, command)
    first = jobs[0].problem
    experts_dir = experts_dir or default_experts(jobs[0].out, first.expert_spec)
    if first.method.needs.segments is not None:
        if experts_dir.resolve() in [job.out.resolve() for job in jobs]:
            raise UserError(f"`experts` and `out` are both {experts_dir}: choose two directories")
        open_compatible(experts_dir, first.expert_spec, first.network)

    results: dict[Path, RunResult] = {}
    for job in jobs:
        finished = None
        if not distributed.is_primary() or locks.owner(job.out) is None:  # else `locked` says it
            finished = _check(job, resume, overwrite)
        if finished is not None:
            say(f"{job.out} holds the finished run: its result")
            results[job.out] = finished
    left = [job for job in jobs if job.out not in results]
    if left:
        if should_stop():
            raise Interrupted("nothing was begun")
        _announce(first, [job.out for job in left])
        options = _Options(
            resume, overwrite, should_stop if wait else None, should_stop, began, listeners
        )
        results |= _make(left, experts_dir, options)
    return [results[job.out] for job in jobs]


def _jobs(
    settings: RunSettings,
    outs: Mapping[int, Path],
    data_dir: str | None,
    experts_dir: Path | None,
    command: Callable[[int], str],
) -> list[Job]:
    named = {"data_dir": data_dir, "experts": experts_dir}
    places = {name: str(files.expanded(place).resolve()) for name, place in named.items() if place}
    return [
        Job(
            problem,
            out,
            {
                **problem.settings.to_json(),
                "command": command(seed),
                "places": places,
                "fingerprint": problem.dataset.fingerprint,
            },
            command(seed),
        )
        for problem, (seed, out) in zip(
            _problems(settings, list(outs), data_dir), outs.items(), strict=True
        )
    ]


class _Options(NamedTuple):
    """How runs are made, the same for all of them."""

    resume: bool
    overwrite: bool
    waiting: Stop | None  # None: another process that writes is an error
    should_stop: Stop
    began: float
    listeners: Sequence[MakeListener]


def _problems(settings: RunSettings, seeds: list[int], data_dir: str | None) -> list[Problem]:
    """A problem for each seed, which share all that no seed changes."""
    first = prepare(dataclasses.replace(settings, seed=seeds[0]), data_dir)
    return [first, *(with_seed(first, seed) for seed in seeds[1:])]


def _announce(problem: Problem, outs: list[Path]) -> None:
    settings, dataset = problem.settings, problem.dataset
    places = f"{outs[0]}" if len(outs) == 1 else f"{outs[0]} … {outs[-1]}, {len(outs)} seeds"
    say(
        f"{settings.method} on {settings.dataset}, {settings.ipc} per class from {settings.init}, "
        f"preset {settings.preset}: {settings.iterations} iterations into {places}"
    )
    if settings.dataset not in SHAPES:
        say(f"{settings.dataset}: {dataset}")
    for split, purpose in ((problem.validation, "validation"), (dataset.test, "test")):
        counts = np.bincount(split.labels, minlength=dataset.num_classes)
        if missing := [dataset.class_names[label] for label in np.flatnonzero(counts == 0)]:
            warn(
                f"no {purpose} image is of {', '.join(map(repr, missing[:5]))}: accuracies leave "
                f"{len(missing)} of {dataset.num_classes} classes out"
            )
    for note in (settings.note, PUBLISHED_CHOICES.get(settings.evaluation.choose)):
        if note:
            warn(note)


def _make(jobs: Sequence[Job], experts_dir: Path, options: _Options) -> dict[Path, RunResult]:
    """Makes the runs that are not finished, each the only writer of its directory."""
    results: dict[Path, RunResult] = {}
    with contextlib.ExitStack() as held:
        # In one order whatever that of the seeds: two commands then never wait for each other.
        for job in sorted(jobs, key=lambda job: job.out.resolve()):
            held.enter_context(locks.locked(job.out, wait_until=options.waiting))
            # Again, as another process may have been here between the first look and the lock.
            finished = _check(job, options.resume, options.overwrite)
            if finished is not None:
                results[job.out] = finished
        jobs = [job for job in jobs if job.out not in results]
        if not jobs:
            return results
        # Listeners first: what a user's file raises is to leave everything as it was.
        with listening(jobs, options.listeners) as listeners:
            store, starts = _ready(jobs, experts_dir, options)
            for job in jobs:
                rundir.claim(job.out, job.stored, overwrite=options.overwrite)
                say_where(job.problem, job.out)
        outcomes = distil(jobs, starts, store, options.should_stop, listeners)
        shared = (time.monotonic() - options.began) / len(jobs)
        for job, outcome in zip(jobs, outcomes, strict=True):
            evaluation_began = time.monotonic()
            result = dataclasses.replace(
                conclude(job.problem, outcome, job.out, options.should_stop),
                expert_seconds=0.0 if store is None else store.seconds,
                command=job.command,
                together=len(jobs),
                seconds=round(shared + time.monotonic() - evaluation_began, 2),
            )
            result.save(job.out / "result.json")
            results[job.out] = result
    return results


def _check(job: Job, resume: bool, overwrite: bool) -> RunResult | None:
    paced = job.problem.settings.method_settings.paced_by_iterations
    fixed = ["iterations"] if paced else []
    return rundir.check(job.out, job.stored, resume=resume, overwrite=overwrite, fixed=fixed)


def _ready(
    jobs: Sequence[Job], experts_dir: Path, options: _Options
) -> tuple[ExpertStore | None, list[SyntheticSet]]:
    """The experts, where the method needs any, and the sets to start from."""
    problems = [job.problem for job in jobs]
    needs = problems[0].method.needs
    if needs.segments is None:
        return None, [problem.start for problem in problems]
    # The updates of several runs are another program.
    due = programs.after_experts(problems[0]) if len(problems) == 1 else []
    with ahead.compiling(*due):
        store = ready_experts(problems[0], experts_dir, options.should_stop, options.waiting)
    if not needs.label_logits:
        return store, [problem.start for problem in problems]
    return store, [with_label_logits(problem, store) for problem in problems]
