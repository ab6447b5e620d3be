"""The readout of a point-set machine as arXiv:2312.09262 trains it: by Adam.

The encoder is frozen, and its normalisation has the statistics of the batch,
whose running means are kept for use. Beside the readout the paper trains biases
before the normalisation and scalars, which the normalisation takes away again
(deplm T10), and for segmentation its scale and shift, which are not trained
here.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxedge.core import checks
from jaxedge.core.keys import stream
from jaxedge.recipes import point_machine, supervised
from jaxedge.recipes.point_machine import Machine
from jaxedge.recipes.recipe import Recipe


class Adam(NamedTuple):
    """Adam, and a rate that falls in steps (deplm 4).

    rate(epoch) = max(learning_rate decay^floor(epoch / every), floor)

    Attributes:
        learning_rate: of epoch 0.
        weight_decay: added to the gradient, as torch's Adam does.
        decay: factor of a step.
        every: epochs between two steps.
        early: whether the schedule is one epoch ahead, as where it is stepped
            before an epoch and not after it.
        floor: least rate.
    """

    learning_rate: float
    weight_decay: float
    decay: float
    every: int
    early: bool
    floor: float

    def check(self) -> None:
        """Raises UsageError for a field out of range."""
        checks.in_range(
            "optimizer.learning_rate", self.learning_rate, 0, open_low=True
        )
        checks.in_range("optimizer.weight_decay", self.weight_decay, 0)
        checks.in_range("optimizer.decay", self.decay, 0, 1, open_low=True)
        checks.whole("optimizer.every", self.every, 1)
        checks.in_range("optimizer.floor", self.floor, 0)

    def rate(self, epoch: Any) -> jax.Array:
        """The learning rate of an epoch, []."""
        steps = (epoch + self.early) // self.every
        return jnp.maximum(
            self.learning_rate * jnp.power(self.decay, steps), self.floor
        )

    def make(self, steps_per_epoch: int) -> optax.GradientTransformation:
        """The optimiser, stepped so often in an epoch."""
        return optax.chain(
            optax.add_decayed_weights(self.weight_decay),
            optax.adam(
                lambda step: self.rate(jnp.asarray(step) // steps_per_epoch)
            ),
        )


def make(
    machine: Machine,
    learn: Any,
    adam: Adam,
    steps_per_epoch: int,
    example: jax.Array,
) -> Recipe:
    """The recipe.

    A chip learns likewise, from nothing: what it reads of its lessons is kept,
    and `learn.chip_epochs` passes over it, in an order drawn for each, train a
    readout.

    Args:
        machine: the encoder.
        learn: `deplm.Learn`.
        adam: how the readout is trained.
        steps_per_epoch: of training.
        example: [1, ...] inputs, for shapes.
    """

    def adapt(variables: Any, lessons: Any, key: Any) -> Any:
        params = variables["params"]
        stats, rest = point_machine.calibrate(
            machine, variables, lessons, key, learn.calibrate
        )
        count = len(rest.y)

        def encode(frame: Any) -> Any:
            i, batch = frame
            at = learn.calibrate + i
            read = None if key is None else stream(key, "read", at)
            features = machine.encode(params, stats, batch.x, read)
            return features, *machine.targets(batch)

        kept = jax.lax.map(encode, (jnp.arange(count), rest))
        optimiser = adam.make(count)

        def step(carry: Any, i: jax.Array) -> tuple[Any, None]:
            head, opt = carry
            rows = jax.tree.map(lambda a: a[i], kept)
            delta, opt = optimiser.update(_slope(head, *rows), opt, head)
            return (optax.apply_updates(head, delta), opt), None

        like = {
            "kernel": (machine.width, machine.classes),
            "bias": (machine.classes,),
        }
        head = {name: jnp.zeros(shape) for name, shape in like.items()}
        drawn = jax.random.key(0) if key is None else key
        drawn = jax.random.split(stream(drawn, "order"), learn.chip_epochs)
        orders = jax.vmap(lambda k: jax.random.permutation(k, count))(drawn)
        start = head, optimiser.init(head)
        (head, _), _ = jax.lax.scan(step, start, orders.reshape(-1))
        return {"params": params | {"readout": head}, "batch_stats": stats}

    recipe = supervised.make(
        machine.network,
        example,
        supervised.Rule(
            init=lambda key, params: (params["readout"], params),
            view=lambda learned, params: params | {"readout": learned},
            advance=lambda old, new, params: (params, {}),
            review=lambda params, metrics: params,
            summary=lambda params: {},
        ),
        adam.make(steps_per_epoch),
    )
    return recipe._replace(adapt=adapt, lessons=learn.chip_examples)


def _slope(
    head: Any, features: jax.Array, targets: jax.Array, weights: jax.Array
) -> Any:
    """Gradient of the mean cross-entropy over rows."""

    def loss(head: Any) -> jax.Array:
        bias = jnp.broadcast_to(head["bias"], targets.shape)
        logits = features @ head["kernel"] + bias
        errors = optax.softmax_cross_entropy(logits, targets)
        return jnp.sum(errors * weights) / jnp.maximum(jnp.sum(weights), 1)

    return jax.grad(loss)(head)
