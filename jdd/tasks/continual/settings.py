"""What is learned in which order, and how."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from jdd.errors import SettingError, UserError
from jdd.methods import CoresetSettings, registry
from jdd.settings import Settings, defaults, setting
from jdd.synthetic import SetInfo

METHODS = {
    "gdumb": ("random", "herding", "distilled"),
    "finetune": ("none", "random", "herding", "distilled"),
}
"""what each protocol compares; GDumb's networks have nothing to be trained on without a memory"""
FINETUNE_EPOCHS = 300
"""passes over the memory that "finetune" makes, whatever is written on the set"""
_FINETUNE_ONLY = ("epochs", "real_batch", "real_lr", "real_momentum")


@dataclass(frozen=True)
class ContinualSettings(Settings):
    """What is learned in which order, and how on real images; for memories there is a recipe."""

    protocol: str = setting(
        "gdumb",
        "gdumb: at every step a fresh network, trained on the memory alone; finetune: one network, "
        "trained on the real images of part after part, and then (for the test after a part, "
        "not for the next part) on the memory",
        choices=METHODS,
    )
    steps: int = setting(2, "parts that the classes come in, as equal as can be", min=1)
    order: str = setting("given", "of the classes: given, random, or each of them once as 2,0,1")
    orders: int = setting(1, "random orders; figures are means over them", min=1)
    repeats: int = setting(2, "fresh networks for each order; figures are means over them", min=1)
    epochs: int = setting(9, "finetune: passes over the real images of each part", min=1)
    real_batch: int = setting(256, "finetune: real images per step, at most", min=1)
    real_lr: float = setting(0.01, "finetune: SGD's rate on real images", above=0)
    real_momentum: float = setting(0.9, "finetune: SGD's momentum on real images", min=0, below=1)

    def __post_init__(self) -> None:
        """Raises `SettingError` for what is out of range."""
        super().__post_init__()
        if self.orders > 1 and self.order != "random":
            raise SettingError("orders", self.orders, "several orders need `order` random")


def build(overrides: Mapping[str, Any]) -> ContinualSettings:
    """The settings with what the user overrides.

    Raises:
      UserError: a value out of range, or one that the protocol has no use for.
    """
    settings = ContinualSettings(**overrides)
    for name in _FINETUNE_ONLY:
        if settings.protocol != "finetune" and name in overrides:
            hint = "; `memory_epochs` is for the memory" if name == "epochs" else ""
            raise UserError(f"`{name}` needs `protocol` finetune{hint}")
    return settings


def herding_settings(preset: str, info: SetInfo, overrides: Mapping[str, Any]) -> CoresetSettings:
    """What herding chooses by: the preset's values for the set, and what the user overrides."""
    values = registry.preset(preset, "herding", info.dataset, info.ipc).values
    names = defaults(CoresetSettings)
    return CoresetSettings(**{k: v for k, v in values.items() if k in names} | dict(overrides))
