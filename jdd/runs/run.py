"""A run from end to end."""

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path

import jax

from jdd import checkpoints, distributed, files, randomness
from jdd.distillation import Hooks, Listener, Loop, distill
from jdd.errors import Interrupted, UserError
from jdd.experts import ExpertStore, SegmentSampler, open_compatible
from jdd.experts import default_directory as default_experts
from jdd.methods import registry
from jdd.report import pictures
from jdd.report.console import ProgressBar, say
from jdd.runs import directory as rundir
from jdd.runs.directory import LAST
from jdd.runs.experts import ready_experts
from jdd.runs.judging import judge, validator
from jdd.runs.problem import Problem, prepare
from jdd.runs.result import RunResult, machine
from jdd.runs.settings import RunSettings
from jdd.runs.soft_labels import with_label_logits
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

    Returns:
      What `result.json` holds.

    Raises:
      UserError: something in the settings, the data or the directories that the user can mend.
      Interrupted: see `should_stop`.
    """
    began = time.monotonic() if began is None else began
    problem = prepare(settings, data_dir)
    places = {"data_dir": data_dir, "experts": experts_dir}
    named = {name: str(Path(place).resolve()) for name, place in places.items() if place}
    stored = {**settings.to_json(), "command": command, "places": named}
    experts_dir = experts_dir or default_experts(out, problem.expert_spec)
    if problem.method.needs.segments is not None:
        if experts_dir.resolve() == out.resolve():
            raise UserError(f"`experts` and `out` are both {out}: choose two directories")
        open_compatible(experts_dir, problem.expert_spec, problem.network)

    finished = None
    if not distributed.is_primary() or files.owner(out) is None:  # else `locked` speaks of it
        finished = rundir.check(out, stored, resume=resume, overwrite=overwrite)
    if finished is not None:
        say(f"{out} holds the finished run: its result")
        return finished
    if should_stop():
        raise Interrupted("nothing was begun")
    _announce(settings, out)
    waiting = should_stop if wait else None
    with files.locked(out, wait_until=waiting):
        # Again, as another process may have been here between the first look and the lock.
        finished = rundir.check(out, stored, resume=resume, overwrite=overwrite)
        if finished is not None:
            return finished
        store, start = _ready(problem, experts_dir, should_stop, waiting)
        rundir.claim(out, stored, overwrite=overwrite)
        result = _distil(problem, start, store, out, should_stop)
        seconds = round(time.monotonic() - began, 2)
        result = dataclasses.replace(result, command=command, seconds=seconds)
        result.save(out / "result.json")
    return result


def _announce(settings: RunSettings, out: Path) -> None:
    say(
        f"{settings.method} on {settings.dataset}, {settings.ipc} per class from {settings.init}, "
        f"preset {settings.preset}: {settings.iterations} iterations into {out}"
    )
    for note in (settings.note, PUBLISHED_CHOICES.get(settings.evaluation.choose)):
        if note:
            say(note)


def _ready(
    problem: Problem, experts_dir: Path, should_stop: Stop, waiting: Stop | None
) -> tuple[ExpertStore | None, SyntheticSet]:
    """The experts, where the method needs any, and the set to start from."""
    needs = problem.method.needs
    if needs.segments is None:
        return None, problem.start
    store = ready_experts(problem, experts_dir, should_stop, waiting)
    return store, with_label_logits(problem, store) if needs.label_logits else problem.start


def _distil(
    problem: Problem, start: SyntheticSet, store: ExpertStore | None, out: Path, should_stop: Stop
) -> RunResult:
    settings = problem.settings
    states = checkpoints.StateCheckpoints(out / "state").iterations()
    if states and states[-1] <= settings.iterations:
        say(f"resuming from iteration {states[-1]} of {settings.iterations}")
    elif states:
        raise UserError(
            f"{out} has come to iteration {states[-1]} already: "
            f"choose another `out` for {settings.iterations}"
        )
    segments, window = None, problem.method.needs.segments
    if store is not None and window is not None:
        count = settings.experts.num_experts
        segments = SegmentSampler(store, window, experts=count, seed=settings.seed)
    watch = _Watch(out, problem)
    with watch.bar:
        outcome = distill(
            problem.method,
            start,
            problem.real_data(),
            randomness.key(settings.seed, "method"),
            Loop(settings.iterations, settings.evaluation.eval_every, settings.loop.chunk),
            Hooks(
                evaluate=validator(problem, should_stop),
                segments=segments,
                listener=rundir.RunFiles(out, watch),
                should_stop=should_stop,
            ),
        )
    outcome.final.save(out / LAST, lambda: rundir.forget_result(out))
    result = judge(problem, outcome, should_stop)
    shown = result.best.accuracy.mean
    words = f"best, at iteration {outcome.best_iteration}: {100 * shown:.1f} % on test images"
    preprocess = problem.dataset.preprocess
    pictures.save_picture(out / "images" / "best.png", outcome.best, preprocess, words)
    pictures.save_course(out / "images")
    return dataclasses.replace(
        result,
        expert_seconds=0.0 if store is None else store.seconds,
        is_coreset=registry.entry(settings.method).is_coreset,
        note=settings.note,
        out=str(out),
        devices=len(outcome.final.labels.sharding.device_set),
        device_kind=jax.devices()[0].device_kind,
        machine=machine(),
    )


class _Watch(Listener):
    """Shows a run's events: lines, a bar, pictures."""

    def __init__(self, out: Path, problem: Problem) -> None:
        self.bar = ProgressBar("updates")
        self._images, self._preprocess = out / "images", problem.dataset.preprocess
        self._dropped = 0
        chosen_on_test = problem.settings.evaluation.choose == "test"
        self._judged_on = "the TEST images" if chosen_on_test else "validation"

    def updated(self, iteration: int, iterations: int, rows: list[dict[str, float]]) -> None:
        """Shows loss and, where there are any, step size and dropped updates."""
        text = f"loss {rows[-1]['loss']:.4f}"
        if "learning_rate" in rows[-1]:
            text += f" step size {rows[-1]['learning_rate']:.4f}"
        if dropped := sum(row["dropped"] > 0 for row in rows):
            self._dropped += dropped
            say(f"iteration {iteration}: {self._dropped} updates dropped so far")
        self.bar.at(iteration, iterations, text)

    def evaluated(
        self, iteration: int, synthetic: SyntheticSet, accuracy: float, is_best: bool
    ) -> None:
        """Says the accuracy and makes the picture."""
        words = f"iteration {iteration}"
        if accuracy == accuracy:  # NaN where sets are not judged
            words += f": {100 * accuracy:.1f} % on {self._judged_on}"
            say(words)
        path = self._images / f"{iteration:06d}.png"
        pictures.save_picture(path, synthetic, self._preprocess, words)
