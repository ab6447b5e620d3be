"""Random crops, mixtures and distortions: Pillow, laws, and what stays."""

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image, ImageEnhance, ImageOps
import pytest
from scipy import stats

from jaxedge.core import UsageError
from jaxedge.features import distortions, images, mixtures

H, W, N = 24, 32, 2000
X = np.random.default_rng(0).random((3, 8, 8, 3), np.float32)
TARGET = np.eye(3, 4, dtype=np.float32)
RANDOM = {
    "random_crop": images.random_crop,
    "random_flip": images.random_flip,
    "mixup": lambda key, x: mixtures.mixup(key, x, TARGET)[0],
    "cutmix": lambda key, x: mixtures.cutmix(key, x, TARGET)[0],
    "mixup_or_cutmix": lambda key, x: mixtures.mixup_or_cutmix(key, x, TARGET)[
        0
    ],
    "random_erasing": lambda key, x: mixtures.random_erasing(key, x, 0.9),
    "rand_augment": distortions.rand_augment,
}


def levels(channels=3, seed=0, low=20, high=230):
    """Two images of 8 bits whose neighbours are alike, as in photographs."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(low, high, (2, 6, 8, channels))
    fine = coarse.repeat(4, 1).repeat(4, 2) + rng.integers(-9, 9, (2, H, W, 1))
    return fine.clip(low, high).astype(np.uint8)


def by_pillow(x, f):
    """`f` on each image, as levels."""
    planes = [a[..., 0] if a.shape[-1] == 1 else a for a in x]
    found = [np.asarray(f(Image.fromarray(a)), np.float64) for a in planes]
    return np.stack(found).reshape(len(x), *found[0].shape[:2], -1)


# Crops.


def test_a_crop_is_a_shift_of_the_padded_image(key):
    ramp = np.arange(30.0, dtype=np.float32).reshape(1, 5, 6, 1)
    x = np.broadcast_to(ramp, (N, 5, 6, 1))
    for mode in ("reflect", "constant"):
        found = np.asarray(images.random_crop(key, x, 2, mode))
        padded = np.pad(ramp[0, :, :, 0], 2, mode)
        windows = [
            padded[i : i + 5, j : j + 6] for i in range(5) for j in range(5)
        ]
        alike = (found[..., 0][:, None] == np.stack(windows)).all((2, 3))
        assert (alike.sum(1) == 1).all()
        # 80 of each of 25; a p-value below 1e-4 has a chance of 1e-4.
        assert stats.chisquare(alike.sum(0)).pvalue > 1e-4


def test_half_of_the_images_are_mirrored(key):
    x = np.broadcast_to(np.arange(6.0, dtype=np.float32).reshape(1, 1, 6, 1),
                        (N, 1, 6, 1))  # fmt: skip
    found = np.asarray(images.random_flip(key, x))
    flipped = (found == x[:, :, ::-1]).all((1, 2, 3))
    assert (flipped | (found == x).all((1, 2, 3))).all()
    assert abs(flipped.mean() - 0.5) < 5 * 0.5 / N**0.5
    np.testing.assert_array_equal(images.random_flip(key, x, 0.0), x)
    np.testing.assert_array_equal(
        images.random_flip(key, x, 1.0), x[:, :, ::-1]
    )


def test_boxes_have_the_area_and_the_shape_that_are_asked(key):
    top, left, height, width = np.asarray(
        images.draw_boxes(key, N, (0.1, 0.3), (0.5, 2.0), 0.8), np.float64
    ).T
    uniform = lambda a: stats.kstest(a, "uniform").pvalue  # noqa: E731
    # Of a share of .3 and a shape of 2, the width is sqrt(.3 * 2 / .8) < 1.
    assert uniform((height * width - 0.1) / 0.2) > 1e-4
    shape = width * 0.8 / height  # In pixels.
    assert uniform(np.log(shape / 0.5) / np.log(4)) > 1e-4
    assert uniform(top / (1 - height)) > 1e-4
    assert uniform(left / (1 - width)) > 1e-4


def test_boxes_that_would_not_fit_are_drawn_again(key):
    top, left, height, width = np.asarray(images.draw_boxes(key, N)).T
    assert (top + height <= 1 + 1e-6).all() and (left + width <= 1 + 1e-6).all()
    area, shape = height * width, width / height
    assert area.min() > 0.08 - 1e-5 and area.max() > 0.95
    # None of 10 may fit, but then it is the whole image, of an allowed shape.
    assert shape.min() > 0.75 - 1e-5 and shape.max() < 4 / 3 + 1e-5
    # Large boxes fit less often: the mean is below that of the uniform law.
    assert area.mean() < 0.54 - 3 * 0.27 / N**0.5


@pytest.mark.parametrize(
    ("aspect", "box"),
    [
        (1.0, (0.25, 0, 0.5, 1)),  # Too narrow for width = 2 height.
        (0.5, (0.375, 0, 0.25, 1)),
        (8.0, (0, 0.375, 1, 0.25)),
    ],
)
def test_a_box_that_never_fits_is_the_largest_in_the_middle(aspect, box, key):
    found = images.draw_boxes(key, 2, (0.9, 1.0), (2.0, 2.0), aspect)
    np.testing.assert_allclose(found, [box, box], atol=1e-6)


@pytest.mark.parametrize("size", [(7, 9), (30, 20)])
def test_a_resized_crop_is_that_of_pillow(size):
    """Within 1 level: Pillow rounds twice, by half a level each."""
    x = levels()
    # (top, left, height, width) in pixels.
    boxes = np.array([[3, 5, 13, 19], [0, 0, H, W]])
    sides = np.array([H, W, H, W])

    def f(box, flip):
        def crop(image):
            top, left, height, width = box
            image = image.crop((left, top, left + width, top + height))
            image = image.resize(size[::-1], Image.Resampling.BILINEAR)
            return ImageOps.mirror(image) if flip else image

        return crop

    flips = np.array([True, False])
    found = images.resized_crop(
        x.astype(np.float32), boxes / sides, size, flips
    )
    expected = [
        by_pillow(x[i : i + 1], f(boxes[i], flips[i]))[0] for i in range(2)
    ]
    np.testing.assert_allclose(found, expected, atol=1.01)


def test_a_crop_of_everything_is_the_image():
    boxes = np.tile(np.array([0, 0, 1, 1], np.float32), (3, 1))
    np.testing.assert_allclose(images.resized_crop(X, boxes, 8), X, atol=1e-6)
    half = images.resized_crop(jnp.asarray(X, jnp.bfloat16), boxes, 8)
    assert half.dtype == jnp.bfloat16
    # A crop between pixels blends them: here halves of two columns.
    boxes = boxes * np.float32([1, 1, 1, 0.75]) + np.float32([0, 1 / 16, 0, 0])
    found = images.resized_crop(X, boxes, (8, 6))
    np.testing.assert_allclose(
        found, (X[:, :, :6] + X[:, :, 1:7]) / 2, atol=1e-5
    )


# Mixtures.


def coded(n=N, side=8):
    """Images that hold their number in each pixel, and one-hot targets."""
    number = np.arange(n, dtype=np.float32)
    return np.tile(number[:, None, None, None], (1, side, side, 1)), number


def test_mixup_blends_an_image_and_its_target_alike(key):
    x, number = coded()
    target = np.stack([number, np.ones(N, np.float32)], 1)
    found, mixed = map(np.asarray, mixtures.mixup(key, x, target, 0.4))
    np.testing.assert_allclose(found, found[:, :1, :1] + 0 * found)
    np.testing.assert_allclose(found[:, 0, 0, 0], mixed[:, 0], rtol=1e-5)
    np.testing.assert_allclose(mixed[:, 1], 1, rtol=1e-6)


def test_the_share_of_mixup_is_of_beta(key):
    """Of an image of 1 and others of 0, only the share remains."""
    x = np.zeros((N, 1, 1, 1), np.float32)
    x[: N // 2] = 1
    _, mixed = mixtures.mixup(key, x, x[:, 0, 0], 0.4)
    share = np.asarray(mixed)[:, 0]
    # An image meets another of its half as often as one of the other half;
    # both shares follow Beta(.4, .4), which is symmetric.
    share = share[(share > 0) & (share < 1)]
    assert abs(len(share) / N - 0.5) < 5 * 0.5 / N**0.5 + 0.02
    assert stats.kstest(share, stats.beta(0.4, 0.4).cdf).pvalue > 1e-4


def test_cutmix_pastes_a_box_and_counts_its_pixels(key):
    x, number = coded(300, 9)
    target = np.eye(300, dtype=np.float32)
    found, mixed = map(np.asarray, mixtures.cutmix(key, x, target))
    areas = []
    for i, image in enumerate(found[..., 0]):
        pasted = image != number[i]
        others = np.unique(image[pasted])
        expected = np.zeros(300)
        expected[i] = 1 - pasted.mean()
        if others.size:
            assert others.size == 1
            rows, columns = np.nonzero(pasted)
            box = pasted[rows.min() : rows.max() + 1]
            assert box[:, columns.min() : columns.max() + 1].all()
            expected[int(others[0])] += pasted.mean()
            areas.append(pasted.mean())
        elif mixed[i, i] < 1:
            raise AssertionError("nothing was pasted, but the target is mixed")
        np.testing.assert_allclose(mixed[i], expected, atol=1e-6)
    # A box of the share 1 - l, l uniform, keeps on each axis 1 - s / 4 of its
    # side s = sqrt(1 - l): the mean of s^2 (1 - s / 4)^2 is .3417, and its
    # deviation below .3.
    assert np.sum(areas) / 300 == pytest.approx(0.3417, abs=5 * 0.3 / 300**0.5)


def test_each_image_is_blended_or_pasted(key):
    x, number = coded(400)
    target = np.stack([number, 1 + 0 * number], 1)
    found, mixed = map(np.asarray, mixtures.mixup_or_cutmix(key, x, target))
    # Their mean tells the target in both cases.
    np.testing.assert_allclose(found.mean((1, 2, 3)), mixed[:, 0], rtol=1e-4)
    uniform = np.ptp(found, axis=(1, 2, 3)) == 0
    blended = uniform & (found[:, 0, 0, 0] % 1 != 0)
    pasted = ~uniform
    # Half are blended; a few boxes are empty or all of the image.
    assert abs(blended.mean() - 0.5) < 5 * 0.5 / 400**0.5
    assert 0.3 < pasted.mean() < 0.5 + 5 * 0.5 / 400**0.5
    only = mixtures.mixup_or_cutmix(key, x, target, cutmix_chance=0.0)[0]
    assert (np.ptp(np.asarray(only), axis=(1, 2, 3)) == 0).all()


def test_erasing_overwrites_a_box_of_its_area(key):
    x = np.ones((N, 20, 20, 1), np.float32)
    found = np.asarray(mixtures.random_erasing(key, x, 0.7))[..., 0]
    gone = found == 0
    assert (gone | (found == 1)).all()
    erased = gone.any((1, 2))
    assert abs(erased.mean() - 0.7) < 5 * (0.21 / N) ** 0.5
    sides = gone.any(2).sum(1), gone.any(1).sum(1)
    np.testing.assert_array_equal(gone.sum((1, 2)), sides[0] * sides[1])
    # Uniform on [.02, .33) but for boxes that do not fit (a side above 1 takes
    # an area above 1 / 3.3 = .30 and a rare shape). An erased box of few pixels
    # may be none, hence the wider band.
    area = gone.mean((1, 2))[erased]
    assert area.mean() == pytest.approx(0.175, abs=5 * 0.09 / N**0.5 + 0.003)
    assert area.max() < 0.37
    height, width = sides[0][erased], sides[1][erased]
    assert abs(np.log(height / width).mean()) < 5 * 0.7 / N**0.5 + 0.01


def test_erasing_may_fill_with_noise(key):
    x = np.full((200, 20, 20, 1), 9, np.float32)
    found = np.asarray(mixtures.random_erasing(key, x, 1.0, "noise"))
    noise = found[found != 9]
    assert noise.size > 200 * 400 * 0.1
    # About 14,000 values: the standard error is .0085.
    assert abs(noise.mean()) < 0.05 and abs(noise.std() - 1) < 0.05


# Operations of Pillow.


def affine(*matrix):
    def f(image):
        grey = 128 if image.mode == "L" else (128,) * 3
        return image.transform(
            image.size,
            Image.Transform.AFFINE,
            matrix,
            resample=Image.Resampling.BILINEAR,
            fillcolor=grey,
        )

    return f


def rotated(degrees):
    return lambda image: image.rotate(
        degrees, Image.Resampling.BILINEAR, fillcolor=(128,) * 3
    )


def enhanced(kind, factor):
    return lambda image: kind(image).enhance(factor)


# The argument, Pillow's function, and by how many levels they may differ. To
# move rounds once. To enhance cuts what is behind the point, and mixes with a
# grey that is rounded, by half a level for the luma and half for its mean.
EQUIVALENT = [
    ("rotate", 27.0, rotated(27.0), 1.01),
    ("rotate", -30.0, rotated(-30.0), 1.01),
    ("shear_x", 0.3, affine(1, 0.3, 0, 0, 1, 0), 1.01),
    ("shear_y", -0.27, affine(1, 0, 0, -0.27, 1, 0), 1.01),
    ("translate_x", 0.31, affine(1, 0, 0.31 * W, 0, 1, 0), 1.01),
    ("translate_y", -0.25, affine(1, 0, 0, 0, 1, -0.25 * H), 1.01),
    *[
        ("brightness", f, enhanced(ImageEnhance.Brightness, f), 1.01)
        for f in (0.1, 1.9)
    ],
    *[
        (name, f, enhanced(kind, f), 1.01 + rounded * abs(1 - f))
        for name, kind, rounded in (
            ("contrast", ImageEnhance.Contrast, 1.0),
            ("color", ImageEnhance.Color, 0.5),
            ("sharpness", ImageEnhance.Sharpness, 0.5),
        )
        for f in (0.19, 1.81)
    ],
    *[
        ("posterize", b, lambda i, b=b: ImageOps.posterize(i, b), 0.001)
        for b in (1, 4, 8)
    ],
    *[
        ("solarize", t / 256, lambda i, t=t: ImageOps.solarize(i, t), 0.001)
        for t in (0, 128, 256)
    ],
    ("autocontrast", 0.0, ImageOps.autocontrast, 1.01),
    ("equalize", 0.0, ImageOps.equalize, 0.001),
    ("invert", 0.0, ImageOps.invert, 0.001),
]


@pytest.mark.parametrize(
    ("name", "argument", "f", "tolerance"),
    EQUIVALENT,
    ids=[f"{name}-{argument:g}" for name, argument, *_ in EQUIVALENT],
)
def test_an_operation_is_that_of_pillow(name, argument, f, tolerance):
    x = levels()
    found = 255 * np.asarray(
        distortions.operate(x / np.float32(255), name, np.float32(argument))
    )
    expected = by_pillow(x, f)
    np.testing.assert_allclose(found, expected, atol=tolerance)
    if (name, argument) not in (("posterize", 8), ("solarize", 1)):
        assert np.abs(expected - x).mean() > 1  # It did something.


def test_every_operation_is_compared():
    assert {name for name, *_ in EQUIVALENT} == {*distortions.OPERATIONS}


def test_flat_and_grey_images_are_as_in_pillow():
    x = levels(1, low=40, high=41)
    x[0] = levels(1)[0]  # One that varies, one with two levels.
    x[1, 0] = 40
    for name, f in (
        ("equalize", ImageOps.equalize),
        ("autocontrast", ImageOps.autocontrast),
        ("contrast", enhanced(ImageEnhance.Contrast, 1.7)),
        ("sharpness", enhanced(ImageEnhance.Sharpness, 1.7)),
    ):
        found = distortions.operate(x / np.float32(255), name, np.float32(1.7))
        np.testing.assert_allclose(
            255 * np.asarray(found), by_pillow(x, f), atol=1.5, err_msg=name
        )
    one = np.full((1, H, W, 1), 0.4, np.float32)
    for name in ("equalize", "autocontrast"):
        found = distortions.operate(one, name)
        np.testing.assert_allclose(found, one, atol=0.5 / 255)


def test_rand_augment_draws_each_operation_as_often(key):
    """One operation of magnitude 9, told by what it makes of an image."""
    n = 600
    image = levels()[:1, :, :16] / np.float32(255)
    candidates, chances = [], []
    arguments = {
        "rotate": (27, -27),
        "shear_x": (0.27, -0.27),
        "shear_y": (0.27, -0.27),
        "translate_x": (0.9 * 150 / 331, -0.9 * 150 / 331),
        "translate_y": (0.9 * 150 / 331, -0.9 * 150 / 331),
        **dict.fromkeys(
            ("brightness", "contrast", "color", "sharpness"), (1.81, 0.19)
        ),
        "posterize": (4,),  # 8 - round(3.6).
        "solarize": (0.1,),
        **dict.fromkeys(("autocontrast", "equalize", "invert"), (0,)),
    }
    for name, values in arguments.items():
        for value in values:
            made = distortions.operate(image, name, np.float32(value))
            candidates.append(np.asarray(made)[0])
            chances.append(1 / 14 / len(values))
    x = np.repeat(image, n, 0)
    found = np.asarray(distortions.rand_augment(key, x, operations=1))
    gap = np.stack([np.abs(found - c).max((1, 2, 3)) for c in candidates], 1)
    assert (np.sort(gap, 1)[:, 0] < 2e-5).all()
    assert (np.sort(gap, 1)[:, 1] > 1e-3).all()
    counts = np.bincount(gap.argmin(1), minlength=len(chances))
    expected = n * np.array(chances)  # 21 at least.
    assert stats.chisquare(counts, expected).pvalue > 1e-4


def test_the_numbers_of_rand_augment_are_arguments(key, compilations):
    x = np.repeat(levels()[:1, :, :16] / np.float32(255), 60, 0)
    numbers = lambda *a: dict(  # noqa: E731
        zip(("magnitude", "spread", "chance"), map(np.float32, a), strict=True)
    )
    distortions.rand_augment(key, x, **numbers(9, 0, 1))
    with compilations() as names:
        never = distortions.rand_augment(key, x, **numbers(9, 0, 0))
        weak = distortions.rand_augment(key, x, **numbers(0, 0, 1))
        wild = distortions.rand_augment(key, x, **numbers(5, 100, 1))
    assert not names
    np.testing.assert_array_equal(never, x)
    # 3 of 14 operations have no magnitude; two in a row spare (11 / 14)^2.
    kept = (np.abs(weak - x) < 1e-5).all((1, 2, 3)).mean()
    assert abs(kept - 0.617) < 5 * (0.24 / 60) ** 0.5
    assert np.min(wild) >= 0 and np.max(wild) <= 1 and np.isfinite(wild).all()


# Contracts.


@pytest.mark.parametrize("name", RANDOM)
def test_random_functions_are_mapped_differentiable_and_repeatable(name, key):
    f, x = RANDOM[name], jnp.asarray(X)
    found = f(key, x)
    assert found.shape == x.shape and found.dtype == x.dtype
    np.testing.assert_array_equal(f(key, x), found)
    keys_2 = jax.random.split(jax.random.fold_in(key, 1))
    loop = [f(k, x) for k in keys_2]
    assert np.any(loop[0] != loop[1])

    @jax.jit
    @jax.vmap
    def both(key):
        slope = jax.grad(lambda x: f(key, x).sum())(x)
        return f(key, x), slope

    mapped, slope = both(keys_2)
    np.testing.assert_allclose(mapped, loop, atol=1e-6)
    assert np.isfinite(slope).all() and np.any(slope)
    half = f(key, x.astype(jnp.bfloat16))
    assert half.dtype == jnp.bfloat16
    assert np.isfinite(half.astype(jnp.float32)).all()


def test_crops_are_mapped_and_differentiable(key):
    def f(key, x):
        boxes = images.draw_boxes(key, 3)
        return images.resized_crop(x, boxes, (5, 4)).sum((1, 2))

    keys_2 = jax.random.split(key)
    mapped = jax.jit(jax.vmap(f, (0, None)))(keys_2, X)
    np.testing.assert_allclose(mapped, [f(k, X) for k in keys_2], rtol=1e-5)
    slope = jax.grad(lambda x: f(key, x).sum())(jnp.asarray(X))
    # A pixel of the result has weights of sum 1.
    np.testing.assert_allclose(slope.sum(), 3 * 5 * 4 * 3, rtol=1e-5)


KEY, BOX = jax.random.key(0), np.tile(np.float32([0, 0, 1, 1]), (3, 1))
MISUSES = {
    r"x is uint8.*\[B, H, W, C\].*x / 255": lambda: images.random_flip(
        KEY, (X * 255).astype(np.uint8)
    ),
    r"of shape \(8, 8, 3\)": lambda: images.random_crop(KEY, X[0]),
    "padding is 8, but images of 8 x 8": lambda: images.random_crop(KEY, X, 8),
    "unknown mode 'wrap'": lambda: images.random_crop(KEY, X, 1, "wrap"),
    "key must come from": lambda: images.random_flip(X, X),
    r"scale is \(0.5, 0.1\)": lambda: images.draw_boxes(KEY, 1, (0.5, 0.1)),
    "scale is 1.5": lambda: images.draw_boxes(KEY, 1, (0.5, 1.5)),
    r"boxes has shape \(2, 4\), but 3": lambda: images.resized_crop(
        X, BOX[1:], 4
    ),
    "a box's far side is 1.5": lambda: images.resized_crop(
        X, BOX + np.float32([0.5, 0, 0, 0]), 4
    ),
    "a box's side is 0": lambda: images.resized_crop(
        X, BOX * np.float32([1, 1, 0, 1]), 4
    ),
    "flips is int": lambda: images.resized_crop(X, BOX, 4, np.zeros(3, int)),
    "rows of size is 0": lambda: images.resized_crop(X, BOX, 0),
    "alpha is 0": lambda: mixtures.mixup(KEY, X, TARGET, 0),
    r"target is int.*one_hot": lambda: mixtures.cutmix(KEY, X, np.arange(3)),
    "cutmix_chance is 2": lambda: mixtures.mixup_or_cutmix(
        KEY, X, TARGET, cutmix_chance=2
    ),
    "probability is -1": lambda: mixtures.random_erasing(KEY, X, -1),
    "x is 2.0.*must lie in": lambda: distortions.rand_augment(KEY, 0 * X + 2),
    "x has 2 channels": lambda: distortions.rand_augment(KEY, X[..., :2]),
    "magnitude is 11": lambda: distortions.rand_augment(KEY, X, magnitude=11),
    "unknown operation 'blur'": lambda: distortions.operate(X, "blur"),
    "argument of posterize is 0": lambda: distortions.operate(
        X, "posterize", 0
    ),
}


@pytest.mark.parametrize("words", MISUSES)
def test_a_misuse_is_told(words):
    with pytest.raises(UsageError, match=words):
        MISUSES[words]()
