"""A listener of one's own: a run's metrics, accuracies and pictures in Weights & Biases."""

import wandb

from jdd.distillation import Listener


class WandB(Listener):  # noqa: D101
    def __init__(self, settings, out):
        self.run = wandb.init(project="jdd", config=settings.to_json(), name=out.name)
        self.images = out / "images"

    def updated(self, iteration, iterations, rows):  # noqa: D102
        for step, row in enumerate(rows, iteration - len(rows) + 1):
            self.run.log(row, step=step)

    def evaluated(self, iteration, synthetic, accuracy, is_best):  # noqa: D102
        picture = wandb.Image(str(self.images / f"{iteration:06d}.png"))
        self.run.log({"validation_accuracy": accuracy, "set": picture}, step=iteration)

    def ended(self, outcome):  # noqa: D102
        self.run.finish()


listener = WandB
