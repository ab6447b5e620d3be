"""What teaches two generators and their critics: a loss, and whom it moves.

The losses of arXiv:2308.14066 in its released code (sequential_gan 4).

What the second generator is given has no slope in its turns. In the released
code the layers that both share learn through these images of the first one too.

Letters: B batch, H height, W width, C channels, Z latent, K classes.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxedge import hardware
from jaxedge.core.keys import stream
from jaxedge.learn import wasserstein
from jaxedge.models.gan import Pair

SCHEDULES = ("semi", "supervised", "unsupervised")
JOINT = ("none", "beside", "instead")
PAIRS = ("l1", "energy")
GIVEN = ("made", "real")
# Whose images a chip makes; critics are needed in training alone.
MAKERS = ("encoder", "first_generator", "second_generator", "shared_block")


class Batch(NamedTuple):
    """What a step sees; labels are one-hot, [B, K], K 0 where none are used.

    Attributes:
        pair: both modalities of known pairs, [B, H, W, 2].
        pair_y: their labels.
        first: images of the first modality, pairs or not, [B, H, W, 1].
        first_y: their labels.
        second: images of the second modality, likewise.
        second_y: their labels.
    """

    pair: Any
    pair_y: Any
    first: Any
    first_y: Any
    second: Any
    second_y: Any


class Plan(NamedTuple):
    """How the networks are taught.

    Attributes:
        model: the networks; their latent vectors end in K labels.
        schedule: of `SCHEDULES`.
        rate: of every Adam.
        b1: memory of the slope.
        b2: memory of its square.
        critic_rate: of the turns of critics, over `rate`.
        adversarial_rate: of the turns of generators against critics, likewise.
        pair_rate: of the turns by pairs, likewise.
        penalty: weight of the gradient penalty.
        warmup: steps in which that weight rises from 0, in equal parts.
        compat: as of `wasserstein.gradient_penalty`.
        joint: of `JOINT`: whether a critic sees known pairs and made ones as
            they are together, beside the second generator's turn by pairs or
            instead of it. Ours; critics of each modality do not tell how the
            two belong together.
        pairs: of `PAIRS`, how pairs teach the second generator: by the mean
            difference, whose best image is one of medians; or by the energy
            score, which is best where images of one first image have the law
            of real ones. Ours; it needs noise.
        given: of `GIVEN`, what the second generator makes an image of where
            pairs teach it: of what encoder and first generator make of the
            first image, as in the released code, or of that image itself. Ours;
            what they lose of it weakens the relation that is learned.
        every: steps from one turn of the generators to the next.
        repeats: turns of the second generator in it.
        average: share of before in a moving average of what makes images.
        rollbacks: how often a state that is no number any more is replaced by
            the last sound one, with half of all rates; then training fails.
        design: hardware on which they make images in training, a chip a turn,
            see `hardware.deploy`; None is ideal.
    """

    model: Pair
    schedule: str
    rate: float
    b1: float
    b2: float
    critic_rate: float = 1.0
    adversarial_rate: float = 1.0
    pair_rate: float = 1.0
    penalty: float = 10.0
    warmup: int = 0
    compat: str | None = None
    joint: str = "none"
    pairs: str = "l1"
    given: str = "made"
    every: int = 3
    repeats: int = 2
    average: float = 0.0
    rollbacks: int = 0
    design: Any = None


class Turn(NamedTuple):
    """One loss, and whom it moves.

    Attributes:
        nets: names of parameters.
        rate: over that of the plan.
        loss: (params of all, batch, key, step) -> ([], what else is told).
    """

    nets: tuple[str, ...]
    rate: float
    loss: Callable[..., tuple[jax.Array, dict[str, jax.Array]]]


def part(params: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    """The networks of these names, so far as there are such."""
    return {name: params[name] for name in params if name in names}


def latents(
    model: Pair, key: jax.Array, labels_BxK: jax.Array, free: Any = None
) -> jax.Array:
    """Normal latent vectors that end in labels, [B, Z].

    Args:
        model: of which networks.
        key: consumed, unless `free` is given.
        labels_BxK: K 0 where none are used.
        free: the part before the labels, [B, Z - K]; None draws it.
    """
    count, classes = labels_BxK.shape
    if free is None:
        free = jax.random.normal(key, (count, model.latent - classes))
    return jnp.concatenate([free, labels_BxK.astype(free.dtype)], -1)


def encoded(
    model: Pair,
    params: Any,
    first: jax.Array,
    labels_BxK: jax.Array,
    key: jax.Array | None = None,
) -> jax.Array:
    """Latent vectors of images, their labels the given ones, [B, Z]."""
    z = model.apply({"params": params}, first, key=key, method="encode")
    free = z[:, : model.latent - labels_BxK.shape[-1]]  # type: ignore[index]
    return latents(model, jax.random.key(0), labels_BxK, free)


def energy_score(a: jax.Array, b: jax.Array, target: jax.Array) -> jax.Array:
    """How far a law is from what was seen, by two draws of it; the mean.

    E |a - y| - E |a - b| / 2 is least where a and b, which are independent,
    have the law of y (Gneiting & Raftery, Journal of the American Statistical
    Association 102:359 (2007), eq. 22).

    Args:
        a: [B, ...].
        b: likewise, drawn apart from `a`.
        target: what was seen, likewise.

    Returns:
        [], with norms as roots of means over an example.
    """

    def norm(x: jax.Array) -> jax.Array:
        square = (x.reshape(len(x), -1) ** 2).mean(-1)
        # The slope at 0 is 0.
        safe = jnp.where(square > 0, square, 1)
        return jnp.where(square > 0, jnp.sqrt(safe), 0).mean()

    return (norm(a - target) + norm(b - target) - norm(a - b)) / 2


def turns(plan: Plan) -> dict[str, Turn]:
    """The losses of a schedule, in their order (sequential_gan 4)."""
    model = plan.model

    def apply(params: Any, method: str, x: Any, key: Any = None) -> jax.Array:
        found = model.apply({"params": params}, x, key=key, method=method)
        return found  # type: ignore[return-value]

    def apply_second(params: Any, first: Any, key: Any, read: Any) -> Any:
        shape = (len(first), model.noise)
        found = model.apply(
            {"params": params},
            first,
            jax.random.normal(stream(key, "noise"), shape),
            key=read,
            method="second",
        )
        return found

    def placed(params: Any, key: jax.Array) -> tuple[Any, Any]:
        """Parameters on a chip, and a read key; both as given if ideal."""
        if plan.design is None:
            return params, None
        chip = hardware.deploy(
            stream(key, "chip"), part(params, MAKERS), plan.design
        )
        return {**params, **chip}, stream(key, "read")

    def fake(params: Any, key: jax.Array, y: jax.Array, name: str) -> Any:
        """What a critic sees, made of normal latent vectors."""
        chip, read = placed(params, key)
        z = latents(model, stream(key, "latent"), y)
        first = apply(chip, "first", z, read)
        if name == "first":
            return first
        first = jax.lax.stop_gradient(first)
        second = apply_second(chip, first, key, read)
        if name == "second":
            return second
        return jnp.concatenate([first, second], -1)

    def seen(x: jax.Array, y: jax.Array) -> jax.Array:
        """An image with its labels as channels."""
        shape = (*x.shape[:-1], y.shape[-1])
        maps = jnp.broadcast_to(y[:, None, None].astype(x.dtype), shape)
        return jnp.concatenate([x, maps], -1)

    def critic(params: Any, name: str, channels: int) -> Any:
        def score(x: jax.Array) -> jax.Array:
            # The slope is one of the image; a label does not change.
            image, labels = x[..., :channels], x[..., channels:]
            x = jnp.concatenate([image, jax.lax.stop_gradient(labels)], -1)
            return apply(params, f"criticise_{name}", x)

        return score

    def real_of(batch: Batch, name: str) -> tuple[Any, Any]:
        """Images that a critic sees as real, and their labels."""
        kind = {"joint": "pair"}.get(name, name)
        return getattr(batch, kind), getattr(batch, f"{kind}_y")

    def critic_turn(name: str) -> Turn:
        def loss(params: Any, batch: Batch, key: jax.Array, step: Any) -> Any:
            x, y = real_of(batch, name)
            made = jax.lax.stop_gradient(fake(params, key, y, name))
            score = critic(params, name, x.shape[-1])
            real, made = seen(x, y), seen(made, y)
            apart = wasserstein.critic_loss(score, real, made)
            penalty = wasserstein.gradient_penalty(
                score, real, made, stream(key, "mix"), compat=plan.compat
            )
            share = jnp.minimum((step + 1) / max(plan.warmup, 1), 1.0)
            weight = plan.penalty * share
            told = {f"{name}_gap": -apart, f"{name}_penalty": penalty}
            return apart + weight * penalty, told

        return Turn((f"{name}_critic",), plan.critic_rate, loss)

    def adversary_turn(name: str, nets: tuple[str, ...]) -> Turn:
        def loss(params: Any, batch: Batch, key: jax.Array, step: Any) -> Any:
            x, y = real_of(batch, name)
            score = critic(params, name, x.shape[-1])
            made = seen(fake(params, key, y, name), y)
            return wasserstein.generator_loss(score, made), {}

        return Turn(nets, plan.adversarial_rate, loss)

    def first_pairs(
        params: Any, batch: Batch, key: jax.Array, step: Any
    ) -> Any:
        chip, read = placed(params, key)
        x = batch.pair[..., :1]
        z = encoded(model, chip, x, batch.pair_y, read)
        apart = jnp.abs(apply(chip, "first", z, read) - x).mean()
        return apart, {"first_l1": apart}

    def second_pairs(
        params: Any, batch: Batch, key: jax.Array, step: Any
    ) -> Any:
        chip, read = placed(params, key)
        x, target = batch.pair[..., :1], batch.pair[..., 1:]
        first = x
        if plan.given == "made":
            z = encoded(model, chip, x, batch.pair_y, read)
            first = jax.lax.stop_gradient(apply(chip, "first", z, read))
        found = apply_second(chip, first, key, read)
        apart = jnp.abs(found - target).mean()
        told = {"second_l1": apart}
        if plan.pairs == "l1":
            return apart, told
        # Independent of the other, but for the chip.
        other = None if read is None else stream(read, "again")
        again = apply_second(chip, first, stream(key, "again"), other)
        return energy_score(found, again, target), told

    def codes(params: Any, batch: Batch, key: jax.Array) -> Any:
        """What the encoder makes, with labels, and as many normal vectors."""
        chip, read = placed(params, key)
        made = encoded(model, chip, batch.pair[..., :1], batch.pair_y, read)
        return made, latents(model, stream(key, "latent"), batch.pair_y)

    def latent_critic(
        params: Any, batch: Batch, key: jax.Array, step: Any
    ) -> Any:
        made, real = codes(params, batch, key)
        made = jax.lax.stop_gradient(made)
        right = jax.nn.softplus(-apply(params, "criticise_latent", real))
        wrong = jax.nn.softplus(apply(params, "criticise_latent", made))
        apart = right.mean() + wrong.mean()
        return apart, {"latent_loss": apart}

    def encoder(params: Any, batch: Batch, key: jax.Array, step: Any) -> Any:
        made, _ = codes(params, batch, key)
        return jax.nn.softplus(
            -apply(params, "criticise_latent", made)
        ).mean(), {}

    first = ("shared_block", "first_generator")
    second = ("shared_block", "second_generator")
    by_first = Turn((*first, "encoder"), plan.pair_rate, first_pairs)
    by_second = Turn(second, plan.pair_rate, second_pairs)
    if plan.schedule == "supervised":
        return {
            "latent_critic": Turn(
                ("latent_critic",), plan.critic_rate, latent_critic
            ),
            "first_pairs": by_first,
            "second_pairs": by_second,
            "encoder": Turn(("encoder",), plan.adversarial_rate, encoder),
        }
    joint = plan.joint != "none"
    found = {
        "first_critic": critic_turn("first"),
        "second_critic": critic_turn("second"),
        **({"joint_critic": critic_turn("joint")} if joint else {}),
        "first_generator": adversary_turn("first", first),
        "first_pairs": by_first,
        "second_generator": adversary_turn("second", second),
        **(
            {"joint_generator": adversary_turn("joint", second)}
            if joint
            else {}
        ),
        "second_pairs": by_second,
    }
    if plan.joint == "instead":
        del found["second_pairs"]
    if plan.schedule == "unsupervised":
        found = {k: v for k, v in found.items() if not k.endswith("pairs")}
    return found


__all__ = [
    "GIVEN",
    "JOINT",
    "MAKERS",
    "PAIRS",
    "SCHEDULES",
    "Batch",
    "Plan",
    "Turn",
    "encoded",
    "energy_score",
    "latents",
    "part",
    "turns",
]
