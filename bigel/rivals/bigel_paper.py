"""BiGEL as its paper is read: free vectors of users and items, and its four modules alone.

.. math:: e_u = P \\, ID_u, \\qquad e_i = Q \\, ID_i

CGL, CGF, GCE and CPA are those of ``bigel.model``; there are no views, and neither trend nor memory
before it is calibrated like all others. So a table tells the method from what was added to it.
"""

from bigel.config import BigelPaperConfig, Config, ModelConfig, TrainConfig
from bigel.rivals.base import World
from bigel.train.bigel import bigel_learner
from bigel.train.learner import Learner


def learner(world: World, settings: BigelPaperConfig, train: TrainConfig) -> Learner:
    """Return it, ready to train.

    Source: arXiv 2601.07294 by its abstract and a public review, which has the free vectors and
    LightGCN along each behavior's graph; where both leave the form open, it is BiGEL's.
    """
    of_model, of_train = (
        {name: getattr(settings, name) for name in type(settings).model_fields if name in fields}
        for fields in (ModelConfig.model_fields, TrainConfig.model_fields)
    )
    shape = ModelConfig(user_vectors=True, view=False, own_view=False, **of_model)
    config = Config.model_construct(model=shape, train=TrainConfig(**of_train))
    return bigel_learner(world.train, world.graphs, config, world.device, world.seed)
