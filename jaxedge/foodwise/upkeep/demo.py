"""Numbers of the made-up campaign: nobody measured any of them.

Canteens, dishes, people and the campaign's effect are invented; the daily mass
is that which public pages tell of the campus of arXiv:2307.12882, about 2.5 t
on a weekday of term (epublish.ust.hk), and the counts of people, actions and
days are those of the same paper's campaign, so that pages are seen at that
size. The canteens are none of its.
"""

import datetime as dt
from typing import NamedTuple

import numpy as np

PEOPLE, LEAST_ACTIONS, DAYS = 220, 800, 14
BEFORE, AFTER = 4, 1  # Weeks of weigh-ins around the campaign.
GRAMS = 2_500_000  # Of all canteens, on a weekday.
DINERS = 24_000  # Meals on a weekday.
# Of what a diner leaves: at once, more with each day, and what stays after.
LEVEL, SLOPE, LEFT = -0.06, -0.003, 0.4
SOURCE = "synthetic"
_WEEKEND = 0.4  # Diners on Saturday and Sunday.
_RHO, _COMMON, _OWN = 0.3, 0.025, 0.09  # Noise of days, and of meals.


class Place(NamedTuple):
    """A canteen that does not exist.

    Attributes:
        slug: in addresses.
        name: in English.
        name_zh: in Chinese.
        meals: that it serves.
        share: of all diners.
        leaves: grams a diner, relative to others.
        sundays: whether it is open then.
    """

    slug: str
    name: str
    name_zh: str
    meals: tuple[str, ...]
    share: float
    leaves: float
    sundays: bool = True


_ALL = ("breakfast", "lunch", "tea", "dinner")
_MAIN = ("lunch", "dinner")
_LATE = ("lunch", "tea", "dinner")
PLACES = (
    Place(
        "demo-banyan", "Banyan Hall (demo)", "榕樹閣（示範）", _ALL, 0.2, 1.0
    ),
    Place(
        "demo-harbour",
        "Harbour Deck (demo)",
        "海港台（示範）",
        _ALL,
        0.16,
        1.15,
    ),
    Place(
        "demo-lantern",
        "Lantern Kitchen (demo)",
        "燈籠廚房（示範）",
        _MAIN,
        0.13,
        1.3,
    ),
    Place(
        "demo-terrace",
        "Terrace Noodles (demo)",
        "露台麵家（示範）",
        _MAIN,
        0.12,
        0.8,
    ),
    Place(
        "demo-north",
        "North Court (demo)",
        "北庭（示範）",
        _ALL,
        0.11,
        1.05,
    ),
    Place(
        "demo-lotus",
        "Lotus Vegetarian (demo)",
        "蓮素食（示範）",
        _MAIN,
        0.08,
        0.7,
        False,
    ),
    Place(
        "demo-pier", "Pier Café (demo)", "碼頭咖啡（示範）", _LATE, 0.08, 0.75
    ),
    Place(
        "demo-garden",
        "Garden Table (demo)",
        "花園餐桌（示範）",
        _MAIN,
        0.07,
        1.2,
        False,
    ),
    Place(
        "demo-lab",
        "Lab Canteen (demo)",
        "實驗室食堂（示範）",
        _LATE,
        0.05,
        0.95,
        False,
    ),
)
# A meal's hours, its share of diners, and grams a diner relative to lunch.
HOURS = {
    "breakfast": (dt.time(7, 30), dt.time(10, 30)),
    "lunch": (dt.time(11, 0), dt.time(14, 30)),
    "tea": (dt.time(14, 30), dt.time(17, 30)),
    "dinner": (dt.time(17, 30), dt.time(21, 0)),
}
_CROWD = {"breakfast": 0.5, "lunch": 1.6, "tea": 0.5, "dinner": 1.2}
_LEAVES = {"breakfast": 0.6, "lunch": 1.0, "tea": 0.55, "dinner": 1.1}
_WEEKDAY = (1.0, 0.97, 0.98, 1.0, 1.06, 0.92, 0.94)
CATEGORIES = (
    "rice",
    "noodles",
    "vegetables",
    "meat",
    "soup",
    "bread",
    "fruit",
    "mixed",
)
_MIX = {
    "breakfast": (0.1, 0.16, 0.05, 0.12, 0.12, 0.3, 0.08, 0.07),
    "lunch": (0.34, 0.14, 0.16, 0.14, 0.1, 0.02, 0.04, 0.06),
    "tea": (0.08, 0.2, 0.06, 0.1, 0.1, 0.34, 0.07, 0.05),
    "dinner": (0.36, 0.12, 0.17, 0.15, 0.09, 0.01, 0.04, 0.06),
}


class Meal(NamedTuple):
    """One meal of one canteen.

    Attributes:
        place: index in `PLACES`.
        day: of it.
        meal: its name.
        diners: None where nobody counted.
        grams: of `CATEGORIES`.
    """

    place: int
    day: dt.date
    meal: str
    diners: int | None
    grams: tuple[int, ...]


def _crowd(place: Place, meal: str) -> float:
    """Diners on a weekday."""
    whole = sum(_CROWD[name] for name in place.meals)
    return DINERS * place.share * _CROWD[meal] / whole


def _scale() -> float:
    """Grams a diner at which a weekday before the campaign weighs `GRAMS`."""
    weekday = float(np.mean(_WEEKDAY[:5]))
    return GRAMS / sum(
        _crowd(place, meal) * place.leaves * _LEAVES[meal] * weekday
        for place in PLACES
        for meal in place.meals
    )


def effect(day: dt.date, starts: dt.date) -> float:
    """Relative change of what a diner leaves; made up."""
    t = (day - starts).days
    if t < 0:
        return 0.0
    whole = LEVEL + SLOPE * min(t, DAYS - 1)
    return whole if t < DAYS else LEFT * whole


def meals(rng: np.random.Generator, starts: dt.date) -> list[Meal]:
    """All meals, from weeks before the campaign to weeks after it."""
    count = 7 * (BEFORE + AFTER) + DAYS
    scale, noise, found = _scale(), 0.0, []
    for i in range(count):
        day = starts + dt.timedelta(days=i - 7 * BEFORE)
        noise = _RHO * noise + rng.normal(0, _COMMON)
        factor = (
            scale
            * _WEEKDAY[day.weekday()]
            * (1 + effect(day, starts))
            * np.exp(noise)
        )
        for index, place in enumerate(PLACES):
            if day.weekday() == 6 and not place.sundays:
                continue
            for meal in place.meals:
                # Drawn for every meal, so that a gap changes no other.
                made = _meal(rng, index, day, meal, factor)
                if place.slug == "demo-pier" and i in (9, 10, 11):
                    made = made._replace(diners=None)  # Nobody counted.
                if not _gap(index, i, count):
                    found.append(made)
    return found


def _meal(
    rng: np.random.Generator, index: int, day: dt.date, meal: str, factor: float
) -> Meal:
    place = PLACES[index]
    crowd = _crowd(place, meal) * (_WEEKEND if day.weekday() > 4 else 1)
    diners = max(1, round(crowd * np.exp(rng.normal(0, 0.06))))
    per_diner = (
        factor * place.leaves * _LEAVES[meal] * np.exp(rng.normal(0, _OWN))
    )
    mix = np.array(_MIX[meal]) * np.exp(rng.normal(0, 0.2, len(CATEGORIES)))
    grams = diners * per_diner * mix / mix.sum()
    return Meal(
        index,
        day,
        meal,
        diners,
        tuple(int(g) for g in np.rint(grams)),
    )


def _gap(index: int, i: int, count: int) -> bool:
    """A scale that was broken for two days of the last week."""
    return PLACES[index].slug == "demo-north" and count - 6 <= i < count - 4


__all__ = [
    "AFTER",
    "BEFORE",
    "CATEGORIES",
    "DAYS",
    "GRAMS",
    "HOURS",
    "LEAST_ACTIONS",
    "Meal",
    "PEOPLE",
    "PLACES",
    "Place",
    "SOURCE",
    "effect",
    "meals",
]
