"""What a kilogram of wasted food compares to: rows that staff can edit.

Each default is a figure that somebody published, as quoted by the page named,
turned into units a kilogram; a year of 0 is unknown. None is a measurement of
these canteens.
"""

import sqlalchemy as sa
from sqlalchemy.orm import Session

from jaxedge.foodwise.base.tables import Equivalent

# 3.3 Gt of CO2 equivalent for 1.3 Gt of edible food.
_CO2E = 3.3 / 1.3
_GALLON = 3.785411784  # Litres of a US gallon, by definition.
_FAO = (
    "FAO, Food wastage footprint: 3.3 Gt CO2e / 1.3 Gt of edible food, without"
    " change of land use"
)
DEFAULTS = (
    (
        "greenhouse gases, as CO2",
        "溫室氣體，以二氧化碳計",
        _CO2E,
        "kg",
        _FAO,
        2013,
    ),
    (
        "petrol burnt in a car",
        "汽車燃燒的汽油",
        _CO2E / 8.887 * _GALLON,
        "L",
        f"US EPA: 8.887 kg CO2 a US gallon (as coded in WaCSE); {_FAO}",
        0,
    ),
    (
        "phones charged",
        "手機充電",
        _CO2E / 0.00822,
        "×",
        f"US EPA: 8.22 g CO2 a charge (as coded in WaCSE); {_FAO}",
        0,
    ),
    (
        "of the food waste that Hong Kong sends to landfill in a day",
        "香港每日棄置於堆填區的廚餘",
        100 / 3_191_000,
        "%",
        "Hong Kong EPD: 3,191 t a day, as quoted by greenpower.org.hk",
        2023,
    ),
    (
        "the world's food waste by person and year (79 kg)",
        "全球每人每年的廚餘（79 公斤）",
        1 / 79,
        "×",
        "UNEP 2024: world 1.05 Gt in 2022, 79 kg a person and year, as quoted"
        " by greenpower.org.hk",
        2024,
    ),
    (
        "meals' waste in China's restaurants, average",
        "中國餐飲業平均一餐的廚餘",
        1 / 0.093,
        "×",
        "93 g a person and meal, report of 2018, as quoted",
        2018,
    ),
)


def fill(session: Session) -> int:
    """Adds the defaults to a table without rows; returns how many."""
    if session.scalar(sa.select(sa.func.count(Equivalent.id))):
        return 0
    fields = ("name", "name_zh", "factor", "unit", "source", "year")
    session.add_all(
        Equivalent(**dict(zip(fields, row, strict=True))) for row in DEFAULTS
    )
    session.flush()
    return len(DEFAULTS)


__all__ = ["DEFAULTS", "fill"]
