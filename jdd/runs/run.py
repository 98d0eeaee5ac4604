"""A run from end to end."""

import contextlib
import dataclasses
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import jax

from jdd import checkpoints, files, randomness
from jdd.distillation import Hooks, Loop, Outcome, Start, distill_many
from jdd.errors import UserError
from jdd.experts import ExpertStore, SegmentSampler, open_compatible
from jdd.experts import default_directory as default_experts
from jdd.methods import registry
from jdd.report import pictures
from jdd.report.console import ProgressBar, say
from jdd.runs import directory as rundir
from jdd.runs.directory import LAST
from jdd.runs.experts import ready_experts
from jdd.runs.judging import judge, validator
from jdd.runs.problem import Problem, prepare, with_seed
from jdd.runs.result import RunResult, machine
from jdd.runs.settings import RunSettings
from jdd.runs.soft_labels import with_label_logits
from jdd.runs.watch import Watch
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
    should_stop: Stop = lambda: False,
    began: float | None = None,
    command: str = "",
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
      should_stop: asked often; once it is true the state is stored and `Interrupted` raised.
      began: `time.monotonic()` when the command began, if that was before this call.
      command: what makes the same run again, for the result.

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
        should_stop=should_stop,
        began=began,
        command=lambda _: command,
    )[0]


def run_seeds(
    settings: RunSettings,
    outs: Mapping[int, Path],
    *,
    data_dir: str | None = None,
    experts_dir: Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
    should_stop: Stop = lambda: False,
    began: float | None = None,
    command: Callable[[int], str] = lambda seed: "",
) -> list[RunResult]:
    """The same run with several seeds, all updates in one program; see `run`.

    Each has its own directory, and comes to the set that `run` gives it by itself, up to rounding.

    Args:
      settings: of all but the seed.
      outs: each seed's directory.
      data_dir, experts_dir, resume, overwrite, should_stop, began: as for `run`.
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
    problems = _problems(settings, list(outs), data_dir)
    places = list(outs.values())
    experts_dir = experts_dir or default_experts(places[0], problems[0].expert_spec)
    if problems[0].method.needs.segments is not None:
        if experts_dir.resolve() in [out.resolve() for out in places]:
            raise UserError(f"`experts` and `out` are both {experts_dir}: choose two directories")
        open_compatible(experts_dir, problems[0].expert_spec)

    results: dict[Path, RunResult] = {}
    for problem, out in zip(problems, places, strict=True):
        stored = problem.settings.to_json()
        finished = rundir.check(out, stored, resume=resume, overwrite=overwrite)
        if finished is not None:
            say(f"{out} holds the finished run: its result")
            results[out] = finished
    jobs = [(p, out) for p, out in zip(problems, places, strict=True) if out not in results]
    if jobs:
        _announce(settings, [out for _, out in jobs])
        flags = {"resume": resume, "overwrite": overwrite}
        made = _make(jobs, experts_dir, flags, should_stop, (began, command))
        results |= dict(zip((out for _, out in jobs), made, strict=True))
    return [results[out] for out in places]


def _problems(settings: RunSettings, seeds: list[int], data_dir: str | None) -> list[Problem]:
    """A problem for each seed, which share all that no seed changes."""
    first = prepare(dataclasses.replace(settings, seed=seeds[0]), data_dir)
    return [first, *(with_seed(first, seed) for seed in seeds[1:])]


def _announce(settings: RunSettings, outs: list[Path]) -> None:
    places = f"{outs[0]}" if len(outs) == 1 else f"{outs[0]} … {outs[-1]}, {len(outs)} seeds"
    say(
        f"{settings.method} on {settings.dataset}, {settings.ipc} per class from {settings.init}, "
        f"preset {settings.preset}: {settings.iterations} iterations into {places}"
    )
    for note in (settings.note, PUBLISHED_CHOICES.get(settings.evaluation.choose)):
        if note:
            say(note)


def _make(
    jobs: list[tuple[Problem, Path]],
    experts_dir: Path,
    flags: Mapping[str, bool],
    should_stop: Stop,
    of_command: tuple[float, Callable[[int], str]],
) -> list[RunResult]:
    """Makes the runs that are not finished, each the only writer of its directory."""
    began, command = of_command
    results = []
    with contextlib.ExitStack() as locks:
        for problem, out in jobs:
            locks.enter_context(files.locked(out))
            # Again, as another process may have been here between the first look and the lock.
            rundir.check(out, problem.settings.to_json(), **flags)
        store, starts = _ready([problem for problem, _ in jobs], experts_dir, should_stop)
        for problem, out in jobs:
            rundir.claim(out, problem.settings.to_json(), overwrite=flags["overwrite"])
        outcomes = _distil(jobs, starts, store, should_stop)
        shared = (time.monotonic() - began) / len(jobs)
        for (problem, out), outcome in zip(jobs, outcomes, strict=True):
            judging = time.monotonic()
            result = dataclasses.replace(
                _conclude(problem, outcome, out, should_stop),
                expert_seconds=0.0 if store is None else store.seconds,
                command=command(problem.settings.seed),
                together=len(jobs),
                seconds=round(shared + time.monotonic() - judging, 2),
            )
            result.save(out / "result.json")
            results.append(result)
    return results


def _ready(
    problems: list[Problem], experts_dir: Path, should_stop: Stop
) -> tuple[ExpertStore | None, list[SyntheticSet]]:
    """The experts, where the method needs any, and the sets to start from."""
    needs = problems[0].method.needs
    if needs.segments is None:
        return None, [problem.start for problem in problems]
    store = ready_experts(problems[0], experts_dir, should_stop)
    if not needs.label_logits:
        return store, [problem.start for problem in problems]
    return store, [with_label_logits(problem, store) for problem in problems]


def _distil(
    jobs: list[tuple[Problem, Path]],
    starts: list[SyntheticSet],
    store: ExpertStore | None,
    should_stop: Stop,
) -> list[Outcome]:
    first, settings = jobs[0][0], jobs[0][0].settings
    with ProgressBar("updates") as bar:
        runs = [
            Start(
                start,
                randomness.key(problem.settings.seed, "method"),
                Hooks(
                    evaluate=validator(problem, should_stop),
                    segments=_segments(problem, store),
                    listener=rundir.RunFiles(
                        out, Watch(out, problem, bar if problem is first else None, len(jobs) > 1)
                    ),
                    should_stop=should_stop,
                ),
            )
            for (problem, out), start in zip(jobs, starts, strict=True)
        ]
        for problem, out in jobs:
            _say_where(problem, out)
        loop = Loop(settings.iterations, settings.evaluation.eval_every, settings.loop.chunk)
        return distill_many(first.method, runs, first.real_data(), loop)


def _say_where(problem: Problem, out: Path) -> None:
    iterations = problem.settings.iterations
    states = checkpoints.StateCheckpoints(out / "state").iterations()
    if states and states[-1] <= iterations:
        say(f"resuming from iteration {states[-1]} of {iterations}")
    elif states:
        raise UserError(
            f"{out} has come to iteration {states[-1]} already: choose another `out` for "
            f"{iterations}"
        )


def _segments(problem: Problem, store: ExpertStore | None) -> SegmentSampler | None:
    window = problem.method.needs.segments
    if store is None or window is None:
        return None
    count = problem.settings.experts.num_experts
    return SegmentSampler(store, window, experts=count, seed=problem.settings.seed)


def _conclude(problem: Problem, outcome: Outcome, out: Path, should_stop: Stop) -> RunResult:
    """Tests what a run has come to."""
    settings = problem.settings
    outcome.final.save(out / LAST)
    result = judge(problem, outcome, should_stop)
    pictures.save_picture(out / "images" / "best.png", outcome.best, problem.dataset.preprocess)
    return dataclasses.replace(
        result,
        is_coreset=registry.entry(settings.method).is_coreset,
        note=settings.note,
        out=str(out),
        devices=len(outcome.final.labels.sharding.device_set),
        device_kind=jax.devices()[0].device_kind,
        machine=machine(),
    )
