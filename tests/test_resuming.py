"""A run that was stopped, killed or damaged comes to the same bits."""

import pytest

from jdd import checkpoints, distillation, files
from jdd.errors import Interrupted, UserError
from jdd.synthetic import SyntheticSet
from tests.toy import ITERATIONS, Heard, Kept, bits, bits_of, go, in_memory, rows


@pytest.mark.parametrize("chunk", [1, 3])
@pytest.mark.parametrize("every", [1, 2, 5])
def test_interrupted_it_ends_in_the_same_bits(tmp_path, chunk, every):
    """Stopped whenever it asks for the `every`th time, until it is done."""
    scores = {0: 0.1, 4: 0.5, 8: 0.3, 11: 0.4}
    whole = go(tmp_path / "whole", accuracies=scores, chunk=chunk)
    stops = 0
    while stops < 50:
        asked = 0

        def stop():
            nonlocal asked
            asked += 1
            return asked >= every

        try:
            parts = go(tmp_path / "parts", accuracies=scores, chunk=chunk, should_stop=stop)
            break
        except Interrupted:
            stops += 1
    assert stops >= 1 and parts.resumed_from > 0 and whole.resumed_from == 0
    assert bits(parts) == bits(whole)
    assert parts.best_iteration == whole.best_iteration == 4
    assert rows(tmp_path / "parts") == rows(tmp_path / "whole")
    stored = [SyntheticSet.load(tmp_path / name) for name in ("parts", "whole")]
    assert bits_of(stored[0]) == bits_of(stored[1]) == bits_of(whole.best)


def test_a_stop_before_an_evaluation_is_not_kept_waiting_by_it(tmp_path):
    """What a machine that goes away within seconds needs: the state first, the evaluation later."""
    heard, states = Heard(), checkpoints.StateCheckpoints(tmp_path / "run" / "state")
    with pytest.raises(Interrupted):
        go(tmp_path / "run", listener=heard, chunk=4, should_stop=lambda: len(heard.updates) == 2)
    assert heard.updates[-1][0] == 8 and heard.looks[-1][0] == 4
    assert states.iterations() == [4, 8]
    parts, whole = go(tmp_path / "run", chunk=4), go(tmp_path / "whole", chunk=4)
    assert bits(parts) == bits(whole)
    assert rows(tmp_path / "run") == rows(tmp_path / "whole")


class Killed(BaseException):
    pass


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    directory = tmp_path_factory.mktemp("uninterrupted")
    return go(directory), rows(directory)


@pytest.mark.parametrize("moment", [1, 2, 3, 4, 9, 17, 27])
def test_killed_at_any_write_it_ends_in_the_same_bits(tmp_path, uninterrupted, monkeypatch, moment):
    whole, lines = uninterrupted
    monkeypatch.setattr(distillation, "SAVE_SECONDS", -1.0)
    count = 0

    def dying(original, after):
        def write(*arguments, **named):
            nonlocal count
            count += 1
            if count == moment and not after:
                raise Killed
            result = original(*arguments, **named)
            if count == moment:
                raise Killed
            return result

        return write

    with monkeypatch.context() as patched:
        for owner, name, after in [
            (files, "append_line", True),
            (checkpoints.StateCheckpoints, "save", False),
            (SyntheticSet, "save", True),
        ]:
            patched.setattr(owner, name, dying(getattr(owner, name), after))
        with pytest.raises(Killed):
            go(tmp_path / "parts")
    parts = go(tmp_path / "parts")
    assert bits(parts) == bits(whole)
    assert rows(tmp_path / "parts") == lines
    assert bits_of(SyntheticSet.load(tmp_path / "parts")) == bits_of(whole.best)


def test_an_evaluation_that_is_made_again_has_one_line(tmp_path, monkeypatch):
    """Stopped before it was due, then killed between its line and the next state."""
    whole = go(tmp_path / "whole", chunk=4)
    heard = Heard()
    with pytest.raises(Interrupted):
        go(tmp_path / "parts", listener=heard, chunk=4, should_stop=lambda: len(heard.updates) == 2)

    def killed(*_):
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(checkpoints.StateCheckpoints, "save", killed)
        with pytest.raises(Killed):
            go(tmp_path / "parts", chunk=4)
    assert "validation_accuracy" in rows(tmp_path / "parts")[-1]
    assert bits(go(tmp_path / "parts", chunk=4)) == bits(whole)
    assert rows(tmp_path / "parts") == rows(tmp_path / "whole")


def test_more_iterations_resume(tmp_path):
    whole = go(tmp_path / "whole", evaluate_every=1)
    go(tmp_path / "parts", iterations=5, evaluate_every=1)
    parts = go(tmp_path / "parts", evaluate_every=1)
    assert parts.resumed_from == 5 and bits(parts) == bits(whole)
    done = go(tmp_path / "parts", evaluate_every=1)
    assert done.resumed_from == ITERATIONS and bits(done) == bits(whole)


def test_a_lost_or_damaged_set_is_written_again_from_the_state(tmp_path):
    scores = {0: 0.1, 4: 0.5}
    outcome = go(tmp_path, accuracies=scores)
    (tmp_path / "synthetic" / "info" / "metadata").write_text("{")
    go(tmp_path, accuracies=scores)
    assert bits_of(SyntheticSet.load(tmp_path)) == bits_of(outcome.best)


def test_what_a_run_resumed_from_stays_whole():
    kept = Kept()
    in_memory(kept, 4)
    before = bits_of(kept.saved.arrays[0])
    ended = in_memory(Kept(), 6)
    kept_state = kept.saved
    assert bits_of(in_memory(kept, 6).final) == bits_of(ended.final)
    assert bits_of(kept_state.arrays[0]) == before


def test_a_state_beyond_the_last_iteration_is_refused():
    kept = Kept()
    in_memory(kept, 4)
    with pytest.raises(UserError, match="of iteration 4, beyond `iterations` 2"):
        in_memory(kept, 2)


def test_a_state_is_looked_for_under_the_runs_own_description():
    for seed in (3, 4):
        kept = Kept()
        in_memory(kept, 2, seed=seed)
        assert kept.described == seed
