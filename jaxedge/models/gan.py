"""The networks of a sequential GAN of two modalities (arXiv:2308.14066).

A first generator makes images of one modality from a latent vector, a second
one those of the other modality from these.

Published are the layers' widths and counts of parameters at 64 x 64
(sequential_gan 3). The counts settle what these leave open: every convolution
and every transposed one has a window of 4 x 4, every layer a bias, and the own
map of the second generator is added to the shared one (joined to it, the next
layer would have more inputs). The layers of the two other variants are those
of the released code (its supervise/net.py and unsupervise/net.py).

All run on any hardware; biases and activations are digital.

Letters: B batch, H height, W width, C channels, Z latent, K classes.
"""

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxedge.core import checks
from jaxedge.models.gan_networks import (
    Critic,
    Encoder,
    FirstGenerator,
    PlainFirst,
    PlainSecond,
    SecondGenerator,
    Shared,
    check_sides,
)

# What a critic may score.
SCORED = ("first", "second", "joint", "latent")


class Outputs(NamedTuple):
    """What all networks make of images of the first modality.

    Attributes:
        latent: [B, Z].
        first: the images that the latent vectors stand for, [B, H, W, C].
        second: those of the other modality, from `first`.
        scores: of each critic, [B], in their order.
    """

    latent: jax.Array
    first: jax.Array
    second: jax.Array
    scores: tuple[jax.Array, ...]


class Pair(nn.Module):
    """All networks of a GAN of two modalities, and what they do together.

    Every method is one to apply: `apply(variables, z, method="first")`.
    Parameters are under "encoder", "first_generator", "second_generator",
    "shared_block", "first_critic", "second_critic", "joint_critic" and
    "latent_critic", so far as there are such networks.

    Attributes:
        sides: height and width of the images of both modalities.
        channels: of the first modality and of the second.
        latent: Z.
        critics: what is scored, of `SCORED`.
        encodes: whether there is an encoder.
        convs: outputs of the convolutions of encoder and critics of images.
        dense: units of the encoder's layers between these and its output.
        critic_dense: the same of critics of images.
        latent_dense: the same of the critic of latent vectors.
        labels: K, channels beside those of an image that its critic sees,
            such as one a class.
        noise: normal numbers that the second generator sees beside an image,
            as maps of one value each. The paper's sees the image alone, so that
            all of it is determined.
    """

    sides: tuple[int, int] = (64, 64)
    channels: tuple[int, int] = (1, 1)
    latent: int = 128
    critics: tuple[str, ...] = ("first", "second")
    encodes: bool = True
    convs: tuple[int, ...] = (64, 128)
    dense: tuple[int, ...] = (1024,)
    critic_dense: tuple[int, ...] = (1024, 128)
    latent_dense: tuple[int, ...] = (128, 1024)
    labels: int = 0
    noise: int = 0

    def setup(self) -> None:
        for name in self.critics:
            checks.choice("critic", name, SCORED)
        if self.encodes:
            self.encoder = Encoder(self.latent, self.convs, self.dense)
        self._generators()
        if "first" in self.critics:
            self.first_critic = Critic(self.convs, self.critic_dense)
        if "second" in self.critics:
            self.second_critic = Critic(self.convs, self.critic_dense)
        if "joint" in self.critics:
            self.joint_critic = Critic(self.convs, self.critic_dense)
        if "latent" in self.critics:
            self.latent_critic = Critic((), self.latent_dense)

    def _generators(self) -> None:
        """Sets up the generators."""
        raise NotImplementedError

    def encode(
        self, x: jax.Array, *, key: jax.Array | None = None
    ) -> jax.Array:
        """Latent vectors [B, Z] of images of the first modality."""
        if not self.encodes:
            raise checks.UsageError(
                "encodes is False, but latent vectors of images need an"
                " encoder; make the networks with encodes=True."
            )
        return self.encoder(self._images(0, x), key)

    def first(self, z: jax.Array, *, key: jax.Array | None = None) -> jax.Array:
        """Images of the first modality, in [-1, 1], of latent vectors."""
        return self.first_generator(self._latents(z), key)

    def second(
        self,
        x: jax.Array,
        noise: jax.Array | None = None,
        *,
        key: jax.Array | None = None,
    ) -> jax.Array:
        """Images of the second modality, in [-1, 1], of ones of the first.

        Args:
            x: [B, H, W, C].
            noise: normal numbers, [B, `noise`]; None is 0, their mean.
            key: read key; None reads without noise.
        """
        x = self._images(0, x)
        if self.noise:
            if noise is None:
                noise = jnp.zeros((len(x), self.noise))
            shape = (*x.shape[:-1], self.noise)
            maps = jnp.broadcast_to(noise[:, None, None].astype(x.dtype), shape)
            x = jnp.concatenate([x, maps], -1)
        return self.second_generator(x, key)

    def generate(
        self,
        z: jax.Array,
        noise: jax.Array | None = None,
        *,
        key: jax.Array | None = None,
    ) -> tuple[jax.Array, jax.Array]:
        """Images of both modalities, of latent vectors and noise."""
        first = self.first(z, key=key)
        return first, self.second(first, noise, key=key)

    def reconstruct(
        self, x: jax.Array, *, key: jax.Array | None = None
    ) -> jax.Array:
        """Images of the first modality, encoded and made again."""
        return self.first(self.encode(x, key=key), key=key)

    def translate(
        self,
        x: jax.Array,
        *,
        encoded: bool = False,
        key: jax.Array | None = None,
    ) -> jax.Array:
        """Images of the second modality, of given ones of the first.

        Args:
            x: [B, H, W, C].
            encoded: whether they are reconstructed first, as in the second
                generator's L1 loss (sequential_gan 4).
            key: read key; None reads without noise.

        Returns:
            [B, H, W, C], in [-1, 1].
        """
        x = self.reconstruct(x, key=key) if encoded else x
        return self.second(x, key=key)

    def criticise_first(
        self, x: jax.Array, *, key: jax.Array | None = None
    ) -> jax.Array:
        """Scores [B], without bounds, of images of the first modality.

        Args:
            x: [B, H, W, C + K].
            key: read key; None reads without noise.
        """
        self._check_critic("first")
        return self.first_critic(self._images(0, x, self.labels), key)

    def criticise_second(
        self, x: jax.Array, *, key: jax.Array | None = None
    ) -> jax.Array:
        """Scores of images of the second modality, as `criticise_first`."""
        self._check_critic("second")
        return self.second_critic(self._images(1, x, self.labels), key)

    def criticise_joint(
        self, x: jax.Array, *, key: jax.Array | None = None
    ) -> jax.Array:
        """Scores of pairs, the first modality's channels in front."""
        self._check_critic("joint")
        return self.joint_critic(x, key)

    def criticise_latent(
        self, z: jax.Array, *, key: jax.Array | None = None
    ) -> jax.Array:
        """Scores [B] of latent vectors, without bounds."""
        self._check_critic("latent")
        return self.latent_critic(self._latents(z), key)

    def __call__(
        self,
        x: jax.Array,
        *,
        train: bool = False,
        key: jax.Array | None = None,
    ) -> Outputs:
        """Runs every network once, so that `init` makes all parameters.

        Args:
            x: images of the first modality; latent vectors where there is no
                encoder.
            train: changes nothing: no layer differs in training.
            key: read key; None reads without noise.

        Returns:
            What each makes of the one before.
        """
        z = self.encode(x, key=key) if self.encodes else x
        first, second = self.generate(z, key=key)
        blank = jnp.zeros((*first.shape[:-1], self.labels), first.dtype)
        scored = {
            "first": (
                self.criticise_first,
                jnp.concatenate([first, blank], -1),
            ),
            "second": (
                self.criticise_second,
                jnp.concatenate([second, blank], -1),
            ),
            "joint": (
                self.criticise_joint,
                jnp.concatenate([first, second, blank], -1),
            ),
            "latent": (self.criticise_latent, z),
        }
        scores = [
            score(y, key=key)
            for score, y in (scored[name] for name in self.critics)
        ]
        return Outputs(z, first, second, tuple(scores))

    def _check_critic(self, name: str) -> None:
        if name not in self.critics:
            raise checks.UsageError(
                f"critics are {self.critics}, without {name!r}; make the"
                f" networks with {name!r} in critics."
            )

    def _images(self, modality: int, x: jax.Array, more: int = 0) -> jax.Array:
        channels = self.channels[modality] + more
        if x.ndim != 4 or x.shape[1:] != (*self.sides, channels):
            raise checks.UsageError(
                f"images of the {SCORED[modality]} modality have shape"
                f" {x.shape}, but must be [B, H, W, C] with sides"
                f" {tuple(self.sides)} and {channels} channel(s); resize them,"
                " or make the networks with other sides and channels."
            )
        return x

    def _latents(self, z: jax.Array) -> jax.Array:
        if z.ndim != 2 or z.shape[1] != self.latent:
            raise checks.UsageError(
                f"latent vectors have shape {z.shape}, but must be [B,"
                f" {self.latent}]; draw them so, or make the networks with"
                " another latent."
            )
        return z


class SequentialGan(Pair):
    """The networks of the paper's semi-supervised GAN.

    120,881,732 parameters at 64 x 64 with one channel each. Sides are
    multiples of 2 ** max(len(down), 4 + len(first_up)), in the paper of 32;
    for 16 x 16 leave `first_up` empty and give `down` four entries.

    Attributes:
        shared: whether the generators share two transposed convolutions;
            otherwise each has its own, under its own parameters.
        shared_features: outputs of the two.
        first_dense: units of the first generator's first layers.
        first_up: outputs of its doublings behind the shared ones.
        down: outputs of the convolutions of the second generator.
        second_up: outputs of its doublings, 3 fewer.
    """

    shared: bool = True
    shared_features: tuple[int, int] = (512, 256)
    first_dense: tuple[int, ...] = (128, 1024)
    first_up: tuple[int, ...] = (128,)
    down: tuple[int, ...] = (64, 128, 256, 512, 512)
    second_up: tuple[int, ...] = (128, 64)

    def _generators(self) -> None:
        ups = 4 + len(self.first_up)
        check_sides(self.sides, {"down": len(self.down), "first_up": ups})
        if self.shared:
            self.shared_block = Shared(self.shared_features)

        def block() -> Shared:
            if self.shared:
                return self.shared_block
            return Shared(self.shared_features, parent=None)

        height, width = (n // 2**ups for n in self.sides)
        first, second = self.channels
        self.first_generator = FirstGenerator(
            block(),
            (height, width, self.down[-1]),
            self.first_dense,
            self.first_up,
            first,
        )
        self.second_generator = SecondGenerator(
            block(), self.down, self.second_up, second
        )


class PlainGan(Pair):
    """The networks of the release's two other variants, which share nothing.

    As it stands those of the supervised one, an adversarial auto-encoder whose
    critic sees latent vectors; with critics=("first", "second") and
    encodes=False those of the unsupervised one. Sides are multiples of
    2 ** max(len(down), 1 + len(first_up)), in the release of 64.

    Attributes:
        start: channels of the first generator behind its dense layers.
        first_dense: units of its first layers.
        first_up: outputs of its doublings, before the one that makes images.
        down: outputs of the convolutions of the second generator.
        second_up: outputs of its doublings, one fewer.
    """

    critics: tuple[str, ...] = ("latent",)
    start: int = 128
    first_dense: tuple[int, ...] = (1024,)
    first_up: tuple[int, ...] = (64,)
    down: tuple[int, ...] = (64, 128, 256, 512, 512, 512)
    second_up: tuple[int, ...] = (512, 512, 256, 128, 64)

    def _generators(self) -> None:
        ups = 1 + len(self.first_up)
        check_sides(self.sides, {"down": len(self.down), "first_up": ups})
        height, width = (n // 2**ups for n in self.sides)
        first, second = self.channels
        self.first_generator = PlainFirst(
            (height, width, self.start), self.first_dense, self.first_up, first
        )
        self.second_generator = PlainSecond(self.down, self.second_up, second)
