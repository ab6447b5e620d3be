"""How much privacy noisy sums cost, in closed form; plain numpy, on the host.

Renyi differential privacy of the sampled Gaussian mechanism: each client takes
part by its own chance `rate`, and normal noise of `noise` times the largest
norm is added to the sum. Two runs are neighbours if one client is there in one
of them alone. Costs of rounds add up, also of different ones:

    cost = accountant.renyi(1.1, 0.1, 100) + accountant.renyi(2.0, 0.2, 50)
    epsilon = accountant.spent(cost, delta=1e-5).epsilon

Only whole orders are known in closed form, so that epsilon is an upper bound
that finer accountants may go below. Samples of a fixed size have another cost.

Letters: A orders.
"""

from typing import NamedTuple

import numpy as np

from jaxedge.core import checks

# Large noise and few rounds have their best order far out.
ORDERS = (*range(2, 257), 320, 384, 512, 768, 1024)
_LARGEST_NOISE = 1e6


class Spent(NamedTuple):
    """A guarantee (epsilon, delta).

    Attributes:
        epsilon: >= 0.
        order: of the Renyi divergence that gave it.
    """

    epsilon: float
    order: int


def renyi(
    noise: float, rate: float = 1.0, rounds: int = 1, orders=ORDERS
) -> np.ndarray:
    """Renyi divergence of each order between neighbouring runs, float64 [A].

    For rate 1, order / (2 noise^2) (Mironov 2017, arXiv:1702.07476,
    Corollary 3); else with a = order, q = rate and s = noise

    log(sum_k (a over k) (1-q)^(a-k) q^k exp((k^2 - k) / (2 s^2))) / (a - 1)

    (Mironov, Talwar & Zhang 2019, arXiv:1908.10530, section 3.3).

    Args:
        noise: standard deviation over the largest norm, > 0.
        rate: chance of a client to take part in a round, in [0, 1].
        rounds: how many.
        orders: whole numbers >= 2, [A].

    Raises:
        UsageError: for numbers outside.
    """
    checks.in_range("noise", noise, 0, open_low=True)
    checks.in_range("rate", rate, 0, 1)
    checks.whole("rounds", rounds)
    for order in orders:
        checks.whole("an order", order, 2)
    if rate == 1:
        return rounds * np.asarray(orders, float) / (2 * noise**2)
    if rate == 0:
        return np.zeros(len(orders))
    logs = np.array([_log_moment(noise, rate, order) for order in orders])
    return rounds * logs / (np.asarray(orders) - 1)


def spent(cost, delta: float, orders=ORDERS) -> Spent:
    """The (epsilon, delta) guarantee of a Renyi cost.

    min over orders a of cost + log((a-1)/a) - log(delta a) / (a-1)
    (Canonne, Kamath & Steinke 2020, arXiv:2004.00010, Proposition 12).

    Args:
        cost: of each order, of `renyi`, [A].
        delta: in (0, 1).
        orders: those of the cost.

    Raises:
        UsageError: for a delta outside, or a cost of other orders.
    """
    checks.in_range("delta", delta, 0, 1, open_low=True)
    cost, a = np.asarray(cost, float), np.asarray(orders, float)
    if cost.shape != a.shape:
        raise checks.UsageError(
            f"the cost has shape {cost.shape}, but there are {a.size} orders."
        )
    epsilon = cost + np.log1p(-1 / a) - (np.log(delta) + np.log(a)) / (a - 1)
    best = int(np.argmin(epsilon))
    return Spent(max(float(epsilon[best]), 0.0), int(a[best]))


def noise_for(
    epsilon: float, delta: float, rate: float = 1.0, rounds: int = 1
) -> float:
    """The least noise whose guarantee is (epsilon, delta), to 1e-6 of itself.

    Args:
        epsilon: > 0.
        delta: in (0, 1).
        rate: as for `renyi`.
        rounds: as for `renyi`.

    Raises:
        UsageError: for numbers outside, or if no noise is enough.
    """
    checks.in_range("epsilon", epsilon, 0, open_low=True)

    def enough(s):
        return spent(renyi(s, rate, rounds), delta).epsilon <= epsilon

    low, high = 1e-3, _LARGEST_NOISE
    if not enough(high):
        raise checks.UsageError(
            f"no noise up to {high:g} gives epsilon {epsilon} at delta"
            f" {delta}; ask for more epsilon or fewer than {rounds} rounds."
        )
    while high / low > 1 + 1e-6:
        middle = (low * high) ** 0.5
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def _log_moment(noise: float, rate: float, order: int) -> float:
    k = np.arange(order + 1)
    factorial = np.concatenate([[0.0], np.cumsum(np.log(k[1:]))])
    terms = factorial[-1] - factorial - factorial[::-1]
    terms += (order - k) * np.log1p(-rate) + k * np.log(rate)
    terms += k * (k - 1.0) / (2 * noise**2)
    # The sum is at least 1, the moment of no noise at all.
    return max(float(np.logaddexp.reduce(terms)), 0.0)
