"""The trainers nnU-Net may find by name (`-tr`).

nnU-Net imports this file as a top-level module, hence its long name, and forgets
it afterwards. The classes come from the installed package, so that the one found
is the one that is imported elsewhere, and can be pickled.
"""

from nnunet_cascade.trainers.cascade_trainer import CascadeTrainer
from nnunet_cascade.trainers.uncertainty_roi import UncertaintyROITrainer

__all__ = ["CascadeTrainer", "UncertaintyROITrainer"]
