"""Training of classifiers by a recipe, for experts and for evaluation; logits and accuracies."""

from jdd.training.fit import FitState as FitState
from jdd.training.fit import Schedule as Schedule
from jdd.training.fit import Trainer as Trainer
from jdd.training.fit import eval_variables as eval_variables
from jdd.training.fit import init as init
from jdd.training.fit import run as run
from jdd.training.fit import run_jit as run_jit
from jdd.training.fit import schedule as schedule
from jdd.training.gsam import Gsam as Gsam
from jdd.training.losses import EACH as EACH
from jdd.training.losses import STACKED as STACKED
from jdd.training.losses import apply_training as apply_training
from jdd.training.losses import augmented as augmented
from jdd.training.losses import batch_loss as batch_loss
from jdd.training.losses import examples_meet as examples_meet
from jdd.training.metrics import Accuracy as Accuracy
from jdd.training.predict import TEST_BATCH as TEST_BATCH
from jdd.training.predict import accuracy as accuracy
from jdd.training.predict import predict as predict
from jdd.training.recipe import OPTIMIZERS as OPTIMIZERS
from jdd.training.recipe import SCHEDULES as SCHEDULES
from jdd.training.recipe import Recipe as Recipe
