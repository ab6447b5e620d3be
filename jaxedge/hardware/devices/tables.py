"""Published fits that are tables: RRAM of Wan et al. and SONOS."""

import math

import numpy as np

DAY = 24 * 3600.0

# log seconds; c_0 to c_4 at each.
WAN = (
    np.array([0.0, math.log(DAY), math.log(2 * DAY)], np.float32),
    np.array(
        [
            [0.348, 16.030, -43.853, 45.393, -16.815],
            [0.701, 22.086, -50.773, 47.095, -16.458],
            [0.782, 20.274, -43.507, 37.062, -11.934],
        ]
    ),
)
# Days; A and B in nA, then p_t in powers of I / nA.
_SONOS_FIT = np.array(
    [
        [19.88665, 176.3115] + [0.0] * 11,
        [25.59102, 186.85544, 6.83650e-01, 6.51250e-03, -4.03163e-04,
         3.37944e-06, -1.87435e-08, 5.88902e-11, -1.07685e-13, 1.17751e-16,
         -7.60016e-20, 2.67255e-23, -3.94954e-27],
        [28.72753, 193.56834, 6.60925e-01, 8.60627e-03, -1.72936e-04,
         7.44096e-07, -5.94866e-09, 2.36734e-11, -4.83740e-14, 5.56072e-17,
         -3.65397e-20, 1.28405e-23, -1.87450e-27],
        [31.04318, 198.90332, 1.15821e00, 1.96116e-02, -4.70807e-04,
         3.67510e-06, -2.08786e-08, 6.59752e-11, -1.19499e-13, 1.28435e-16,
         -8.11574e-20, 2.78802e-23, -4.02057e-27],
        [33.76214, 204.77023, 8.72216e-01, 1.70926e-02, -2.23370e-04,
         1.57526e-06, -1.32779e-08, 5.08256e-11, -1.01251e-13, 1.14633e-16,
         -7.46124e-20, 2.60559e-23, -3.78724e-27],
        [34.57909, 207.34309, 1.15294e00, 1.03149e-02, -6.05199e-05,
         1.76086e-08, -6.46690e-09, 3.39044e-11, -7.53872e-14, 8.98185e-17,
         -6.00346e-20, 2.12615e-23, -3.11099e-27],
    ]
)  # fmt: skip


def _stable(powers: np.ndarray) -> np.ndarray:
    """Powers of I over [0, 1600] nA as Chebyshev terms.

    In float32 the powers cancel to a hundredth of their size; these do not.
    """
    fit = np.polynomial.Polynomial(powers)
    cheb = fit.convert(
        kind=np.polynomial.Chebyshev, domain=[0, 1600], window=[-1, 1]
    )
    return np.resize(np.append(cheb.coef, np.zeros(11)), 11)


# Days; A, B and the Chebyshev terms of p_t at each.
SONOS = (
    np.arange(6, dtype=np.float32),
    np.stack([np.append(row[:2], _stable(row[2:])) for row in _SONOS_FIT]),
)
