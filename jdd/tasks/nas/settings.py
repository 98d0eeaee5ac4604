"""How architectures are searched for, and what is kept of each training."""

import dataclasses
from dataclasses import dataclass
from typing import Any, NamedTuple

from jdd.errors import SettingError
from jdd.settings import Settings, setting
from jdd.tasks.nas.spaces import SPACES, Options, name

PROXIES = ("distilled", "random", "early")
FULL = "full"
TESTED = "test"  # a full training's accuracy on the test images
_COUNTS = ("candidates", "sample", "repeats")


@dataclass(frozen=True)
class NasSettings(Settings):
    """How architectures are searched for."""

    space: str = setting(
        "convnets",
        "convnets: the papers' 720 ConvNets; sequential: 12 small networks",
        choices=SPACES,
    )
    candidates: int = setting(6, "networks drawn from the space", min=1)
    sample: int = setting(0, "of them, trained on all real images too; 0: all", min=0)
    repeats: int = setting(
        1, "fresh networks a candidate on the distilled and the random images", min=1
    )
    epochs: int = setting(
        10, "epochs on the distilled set; early stopping takes as many steps", min=1
    )
    full_epochs: int = setting(10, "epochs on all real images", min=1)
    batch: int = setting(16, "images per step, at most", min=1)
    learning_rate: float = setting(
        0.0, "0: the space's, 0.01 (SGD) for convnets, 0.001 (Adam) for sequential", min=0
    )
    augmentation: str = setting("none", "DSA strategy of all trainings, its kinds joined by _")
    held_out: float = setting(
        0.3,
        "fraction of the real training images that candidates are evaluated on",
        above=0,
        below=1,
    )
    real_images: int = setting(
        0, "real training images used, before that fraction is held out; 0: all", min=0
    )

    def __post_init__(self) -> None:
        """Raises `SettingError` for what is out of range."""
        super().__post_init__()
        if self.sample > self.candidates:
            raise SettingError("sample", self.sample, f"at most `candidates`, {self.candidates}")

    def identity(self) -> dict[str, Any]:
        """What a finished training depends on: all but how many of them there are."""
        return {k: v for k, v in dataclasses.asdict(self).items() if k not in _COUNTS}


class Training(NamedTuple):
    """A network trained and evaluated."""

    candidate: Options
    proxy: str  # one of PROXIES, FULL, or TESTED
    repeat: int  # which of several fresh networks
    accuracy: float  # fraction of 1, on the validation split unless the proxy is TESTED
    seconds: float  # of training, without compiling
    steps: int

    @property
    def identity(self) -> tuple[str, str, int]:
        """Which training it is."""
        return name(self.candidate), self.proxy, self.repeat
