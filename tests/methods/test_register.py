"""Methods of one's own: what works is known by name, what is missing is said at once."""

import dataclasses
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jdd import networks
from jdd.errors import UserError
from jdd.methods import Method, MethodSettings, MethodState, Needs, guarded, register, registry
from jdd.settings import setting
from tests.methods import small


@dataclass(frozen=True)
class OwnSettings(MethodSettings):
    iterations: int = setting(10, "updates", min=1)
    pull: float = setting(0.5, "how far images go towards their class's mean", min=0, max=1)


def to_means(settings, network, **changes):
    """Images go towards the mean of their class; `changes` break it."""

    def init(key, synthetic, data):
        return synthetic, MethodState(jax.random.key_data(key), jnp.int32(0), ())

    def update(synthetic, state, data, segment=None):
        means = jnp.stack(
            [jnp.mean(data.sample_class(state.iteration_key(), c, 4), 0) for c in range(2)]
        )
        gap = means[synthetic.labels] - synthetic.images
        moved = synthetic.replace(storage=synthetic.images + settings.pull * gap)
        state = state._replace(iteration=state.iteration + 1)
        return moved, state, {"loss": jnp.mean(gap**2)}

    return Method(**{"init": init, "update": update, **changes})


@pytest.fixture(autouse=True)
def registry_as_it_was(monkeypatch):
    monkeypatch.setattr(registry, "METHODS", dict(registry.METHODS))


def test_what_is_registered_is_known_by_name():
    register("own", to_means, OwnSettings)
    register("own", to_means, OwnSettings)  # again, as when its file is loaded twice
    assert "own" in registry.names()
    method = registry.create_method("own", networks.create("MLP", 3), pull=1.0)
    of = small.digits(4)
    synthetic, state = method.init(jax.random.key(0), small.start(2), of)
    synthetic = synthetic.replace(labels=jnp.minimum(synthetic.labels, 1))
    moved, _, _ = guarded(method).update(synthetic, state, of)
    mean = np.mean(small.real(of, 1), axis=0)
    np.testing.assert_allclose(moved.images[5], mean, rtol=1e-5, atol=1e-6)
    with pytest.raises(UserError, match="unknown setting of own 'pul': did you mean 'pull'"):
        registry.create_method("own", None, pul=1.0)


def no_loss(settings, network):
    def update(synthetic, state, data, segment=None):
        return synthetic, state, {"distance": jnp.float32(0)}

    return to_means(settings, network, update=update)


def two_results(settings, network):
    return to_means(
        settings, network, update=lambda synthetic, state, data, segment=None: (synthetic, {})
    )


def other_state(settings, network):
    def update(synthetic, state, data, segment=None):
        return synthetic, (state, jnp.zeros(3)), {"loss": jnp.float32(0)}

    return to_means(settings, network, update=update)


def broken(settings, network):
    def update(synthetic, state, data, segment=None):
        return synthetic.images @ jnp.zeros((7, 7)), state, {}

    return to_means(settings, network, update=update)


def without_data(settings, network):
    return to_means(settings, network, needs=Needs(real_images=False))


def own_dropped(settings, network):
    def update(synthetic, state, data, segment=None):
        moved, state, metrics = to_means(settings, network).update(synthetic, state, data, segment)
        return moved, state, {**metrics, "dropped": jnp.int32(0)}

    return Method(to_means(settings, network).init, update)


def one_result(settings, network):
    return to_means(settings, network, init=lambda key, synthetic, data: synthetic)


def nested_metrics(settings, network):
    whole = to_means(settings, network)

    def update(*arguments):
        synthetic, state, metrics = whole.update(*arguments)
        return synthetic, state, {**metrics, "more": {"x": metrics["loss"]}}

    return whole._replace(update=update)


def settings_with(kind, default, called="amount"):
    """`OwnSettings` with one more field."""
    more = [(called, kind, setting(default, "more"))]
    return dataclasses.make_dataclass("More", more, bases=(OwnSettings,), frozen=True)


class NoDataclass(MethodSettings):
    iterations = 3


@dataclass(frozen=True)
class NoIterations(MethodSettings):
    pull: float = setting(0.5, "how far")


@dataclass(frozen=True)
class Undeclared(MethodSettings):
    iterations: int = setting(10, "updates", min=1)
    pull: float = 0.5


@dataclass
class Other:
    iterations: int = 3


@pytest.mark.parametrize(
    ("factory", "settings", "words"),
    [
        (no_loss, OwnSettings, "update's metrics are to be a dictionary of scalars with a 'loss'"),
        (two_results, OwnSettings, r"update is to return \(synthetic, state, metrics\)"),
        (other_state, OwnSettings, "return the state in the structure, shapes and dtypes"),
        (broken, OwnSettings, "update raises TypeError"),
        (without_data, OwnSettings, "its Method says other needs than its settings"),
        (own_dropped, OwnSettings, "the metric dropped is the loop's own"),
        (lambda settings, network: 3, OwnSettings, "its factory is to return a jdd.methods.Method"),
        (to_means, Other, "its settings are to be a class derived from MethodSettings"),
        (to_means, NoDataclass, "is to be a @dataclass"),
        (to_means, NoIterations, "has no field 'iterations'"),
        (to_means, Undeclared, "declare the field pull of Undeclared"),
        (one_result, OwnSettings, r"init is to return \(synthetic, state\)"),
        (nested_metrics, OwnSettings, "the metric more is dict, and is to be a scalar"),
        (
            to_means,
            settings_with(tuple, (1, 2)),
            "field amount of More has a default of type tuple",
        ),
        (to_means, settings_with(float, 1), "field amount of More is float, and its default 1 is"),
        (
            to_means,
            settings_with("float", 1),
            "field amount of More is float, and its default 1 is",
        ),
        (to_means, settings_with(float, 1.0, "iterations"), "iterations of More is to be a whole"),
    ],
)
def test_what_a_method_lacks_is_said_when_it_is_registered(factory, settings, words):
    with pytest.raises(UserError, match=words) as caught:
        register("own", factory, settings)
    assert str(caught.value).startswith("method 'own': ") and "\n" not in str(caught.value)
    assert "own" not in registry.METHODS


def test_a_name_that_is_taken_is_refused():
    with pytest.raises(UserError, match="there is one of this name already"):
        register("dm", to_means, OwnSettings)
    for name in ("", "a/b", "a b", "../up"):
        with pytest.raises(UserError, match="make a name, as it is a directory's"):
            register(name, to_means, OwnSettings)
    with pytest.raises(UserError, match="`preset` 'fast'"):
        register("own", to_means, OwnSettings, {"fast": None})


def test_every_method_passes_its_own_check():
    """What is asked of other people's methods holds for ours."""
    for name, entry in registry.METHODS.items():
        settings = entry.settings()
        few = {name: 2 for name in ("syn_steps", "window") if hasattr(settings, name)}
        settings = dataclasses.replace(settings, **few)
        registry.try_out(name, entry.factory, settings)
