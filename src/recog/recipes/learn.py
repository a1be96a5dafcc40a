"""How a network learns: a head on frozen features, or all of it by gradient steps. Both yield what happens as it happens."""

from __future__ import annotations

from collections.abc import Iterator

from recog.recipes.events import LearnEvent
from recog.recipes.head import learn_frozen
from recog.recipes.network import learn_network
from recog.recipes.prepare import Prepared
from recog.recipes.resume import Kept
from recog.training.distributed import World


def count_steps(prepared: Prepared) -> int:
    config = prepared.config
    if prepared.larger is None:
        return 0
    batch_size = (config.loader.batch_size or 1) * config.optim.accumulation
    steps_per_epoch = max(1, len(prepared.larger.targets) // batch_size)
    return steps_per_epoch * (config.optim.epochs or 1)


def learn(prepared: Prepared, kept: Kept, world: World) -> Iterator[LearnEvent]:
    config, model = prepared.config, prepared.model
    if kept.state is None:
        yield from learn_frozen(model.classifier, prepared)
    if prepared.larger is not None:
        yield from learn_network(
            model.classifier,
            prepared.larger,
            prepared.val,
            config,
            image_size=model.preprocess.image_size,
            kept=kept,
            world=world,
        )
