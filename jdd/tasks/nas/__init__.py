"""Architecture search: does training on a distilled set rank networks as training on all data does?

Zhao et al., "Dataset Condensation with Gradient Matching" (2021), section 4.2; with the comparison
to random images and to early stopping of Zhao and Bilen, "Dataset Condensation with Differentiable
Siamese Augmentation" (2021).
"""

from jdd.tasks.nas.bench import Bench as Bench
from jdd.tasks.nas.figures import spearman as spearman
from jdd.tasks.nas.figures import summary as summary
from jdd.tasks.nas.search import Plan as Plan
from jdd.tasks.nas.search import plan as plan
from jdd.tasks.nas.search import search as search
from jdd.tasks.nas.settings import FULL as FULL
from jdd.tasks.nas.settings import PROXIES as PROXIES
from jdd.tasks.nas.settings import NasSettings as NasSettings
from jdd.tasks.nas.settings import Training as Training
from jdd.tasks.nas.spaces import SPACES as SPACES
from jdd.tasks.nas.spaces import name as name
from jdd.tasks.nas.store import SearchStore as SearchStore
