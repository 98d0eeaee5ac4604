"""Settings: every kind of bound and what is said where it is passed; names of before."""

import dataclasses
from dataclasses import dataclass

import pytest

from jdd import settings
from jdd.errors import SettingError, UserError, nearest, unknown
from jdd.settings import SEEDS, Settings, defaults, helps, renamed, seed, setting


@dataclass(frozen=True)
class Example(Settings):
    steps: int = setting(3, "steps of the student", min=1)
    epochs: int = setting(5, "epochs of each", min=1, max=50)
    most: int = setting(2, "at most a few", max=4)
    rate: float = setting(0.1, "step size", above=0)
    momentum: float = setting(0.5, "momentum of the images", min=0, below=1)
    fraction: float = setting(0.1, "held out", above=0, below=1)
    decay: float = setting(0.5, "when it decays", above=0, max=1)
    cold: float = setting(-1.0, "below zero", below=0)
    free: float = setting(0.0, "any number")
    dsa: bool = setting(True, "with DSA")
    memory: str = setting("auto", "what is stored", choices=("auto", "all", "constant"))
    name: str = setting("x", "any name")
    first_seed: int = seed(0, "seed of all")
    note: tuple = ()


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("steps", 0, "at least 1 is needed"),
        ("steps", -(10**30), "at least 1 is needed"),
        ("epochs", 0, "from 1 to 50"),
        ("epochs", 51, "from 1 to 50"),
        ("most", 5, "at most 4"),
        ("rate", 0.0, "it must be above 0"),
        ("rate", -1, "it must be above 0"),
        ("rate", float("nan"), "it must be above 0"),
        ("rate", float("inf"), "it must be finite"),
        ("momentum", 1.0, "from 0 to below 1"),
        ("momentum", -0.1, "from 0 to below 1"),
        ("fraction", 0.0, "above 0 and below 1"),
        ("fraction", 1, "above 0 and below 1"),
        ("decay", 0.0, "above 0 and at most 1"),
        ("decay", 1.01, "above 0 and at most 1"),
        ("cold", 0.0, "it must be below 0"),
        ("free", float("nan"), "it must be finite"),
        ("free", float("-inf"), "it must be finite"),
        ("steps", 1.5, "a whole number is needed"),
        ("steps", 2.0, "a whole number is needed"),
        ("steps", True, "a whole number is needed"),
        ("steps", None, "a whole number is needed"),
        ("rate", "0.1", "a number is needed"),
        ("rate", False, "a number is needed"),
        ("dsa", 1, "true or false is needed"),
        ("name", 7, "a name is needed"),
        ("memory", None, "a name is needed"),
        ("memory", "al", "did you mean 'all'? choose from all, auto, constant"),
        ("first_seed", -1, "from 0 to 4294967295"),
        ("first_seed", SEEDS, "from 0 to 4294967295"),
        ("first_seed", 0.5, "a whole number is needed"),
    ],
)
def test_a_value_out_of_range_is_named_with_what_would_do(name, value, problem):
    with pytest.raises(SettingError) as raised:
        Example(**{name: value})
    error = raised.value
    assert (error.field, error.problem) == (name, problem)
    assert str(error) in {f"`{name}` {value}: {problem}", f"`{name}` {value!r}: {problem}"}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("steps", 1),
        ("epochs", 1),
        ("epochs", 50),
        ("most", -7),
        ("rate", 1e-30),
        ("rate", 2),  # a whole number is a number
        ("momentum", 0),
        ("fraction", 0.999),
        ("decay", 1),
        ("free", -1e30),
        ("dsa", False),
        ("memory", "constant"),
        ("first_seed", SEEDS - 1),
        ("note", "of no kind that is checked"),
    ],
)
def test_the_ends_of_a_range_belong_to_it_or_not_as_declared(name, value):
    assert getattr(Example(**{name: value}), name) == value


def test_a_copy_is_checked_too():
    with pytest.raises(SettingError, match="`steps` 0"):
        dataclasses.replace(Example(), steps=0)


def test_what_fields_fulfil_together_a_subclass_checks_after_each():
    @dataclass(frozen=True)
    class Both(Example):
        def __post_init__(self):
            super().__post_init__()
            if self.steps > self.epochs:
                raise SettingError("steps", self.steps, f"more than `epochs` {self.epochs}")

    assert Both(steps=5).steps == 5
    with pytest.raises(SettingError, match=r"^`steps` 6: more than `epochs` 5$"):
        Both(steps=6)
    with pytest.raises(SettingError, match="`epochs` 51: from 1 to 50"):
        Both(steps=60, epochs=51)


def test_helps_and_defaults_are_those_declared():
    @dataclass(frozen=True)
    class Other(Settings):
        width: int = setting(8, "channels", min=1)

    assert list(defaults(Example)) == [f.name for f in dataclasses.fields(Example)][:-1]
    assert defaults(Example)["momentum"] == 0.5 == Example().momentum
    assert helps(Example, Other) == {
        **{f.name: f.metadata["help"] for f in dataclasses.fields(Example) if f.name != "note"},
        "width": "channels",
    }


def test_stored_settings_are_read_under_the_names_of_today():
    stored = {"whole_epochs": 3, "lr_img": 1.0, "schedule": "pad", "easy_share": 0.2}
    assert renamed(stored) == {
        "full_data_epochs": 3,
        "lr_img": 1.0,
        "curriculum": "pad",
        "initial_fraction": 0.2,
    }
    assert renamed(renamed(stored)) == renamed(stored)
    assert not set(settings.RENAMED) & set(settings.RENAMED.values())


def test_names_that_are_renamed_are_fields_somewhere_and_the_old_ones_nowhere():
    from jdd.evaluation import EvaluationSettings
    from jdd.experts import ExpertSettings
    from jdd.methods.registry import METHODS

    kinds = (EvaluationSettings, ExpertSettings, *(entry.settings for entry in METHODS.values()))
    fields = set(helps(*kinds))
    assert set(settings.RENAMED.values()) <= fields
    assert not set(settings.RENAMED) & fields


def test_a_setting_error_is_a_users():
    error = SettingError("lr_img", 0.0, "it must be above 0")
    assert isinstance(error, UserError) and isinstance(error, ValueError)
    assert (error.field, error.value) == ("lr_img", 0.0)


def test_the_nearest_name_is_suggested_whatever_its_case():
    assert nearest("CONVNET", ["MLP", "ConvNet"]) == (
        "did you mean 'ConvNet'? choose from ConvNet, MLP"
    )
    assert nearest("x", []) == "choose from "
    assert str(unknown("dataset", "minst", ["mnist", "digits"])) == (
        "unknown dataset 'minst': did you mean 'mnist'? choose from digits, mnist"
    )
