"""What of a model is found on training data once its weights are there: the scale of means that have none."""

from vaebench.core.data import Dataset
from vaebench.core.errors import UserError, foreign
from vaebench.core.model import LatentVariableModel
from vaebench.models.adapters._network import Module

TRAIN = "train"


def fit(model: LatentVariableModel, dataset: Dataset) -> LatentVariableModel:
    """`model`, in evaluation mode, with what its options leave to be fitted on the training split of `dataset`.

    Raises UserError if there is no such split, or the network cannot be called on it.
    """
    if not isinstance(model, Module) or model.wiring.scale != "fit" or model.scale is not None:
        return model
    if not dataset.has(TRAIN):
        raise UserError(f"scale = 'fit' needs a split {TRAIN!r}, which {dataset.name} lacks; give a number")
    with foreign(lambda reason: UserError(f"scale = 'fit' on {dataset.name}: {reason}")):
        model.eval().fit_scale(dataset.split(TRAIN))
    return model
