"""Charts as Vega-Lite 6 specifications: data within, nothing to fetch or run.

One hue, orange for what needs a second look, and grey: told apart by all common
kinds of colour blindness, and by lightness on paper. Rows carry what the table
beneath shows, so that a mark is a row.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

SCHEMA = "https://vega.github.io/schema/vega-lite/v6.json"  # Only a name.
GREEN, ORANGE, GREY, PALE = "#1d6b45", "#b35900", "#5b6662", "#a9c9b7"
BAND = "#8fbba3"
HEAT = ("#f3f1e8", "#7a3d00")
_FONT = 'system-ui, "Noto Sans", "Noto Sans CJK TC", sans-serif'
_CONFIG = {
    "font": _FONT,
    "background": "transparent",
    "view": {"stroke": None},
    "axis": {
        "labelColor": "#1c2321",
        "titleColor": "#1c2321",
        "titleFontWeight": "normal",
        "labelFontSize": 12,
        "titleFontSize": 12,
        "gridColor": "#e6e3da",
        "domainColor": "#5b6662",
        "tickColor": "#5b6662",
    },
    "legend": {"labelFontSize": 12, "titleFontSize": 12},
}
_AXES = 44  # Pixels of axes above and below rows.
Row = Mapping[str, Any]
Say = Callable[..., str]


def _chart(
    description: str, rows: Sequence[Row], height: int, **rest: Any
) -> dict[str, Any]:
    return {
        "$schema": SCHEMA,
        "description": description,
        "width": "container",
        "height": height,
        "autosize": {"type": "fit", "contains": "padding"},
        "config": _CONFIG,
        "data": {"values": [dict(row) for row in rows]},
        **rest,
    }


def _axis(title: str | None, **rest: Any) -> dict[str, Any]:
    return {"title": title, **rest}


def _tips(*pairs: tuple[str, str]) -> list[dict[str, Any]]:
    return [
        {"field": field, "type": "nominal", "title": title}
        for field, title in pairs
    ]


def weekly_mass(rows: Sequence[Row], say: Say) -> dict[str, Any]:
    """Bars of tonnes a week; rows have "label", "tonnes", "shown", "now"."""
    return _chart(
        say("dashboard.chart.weekly_mass"),
        rows,
        150,
        mark={"type": "bar"},
        encoding={
            "x": {
                "field": "label",
                "type": "ordinal",
                "sort": None,
                "axis": _axis(
                    say("dashboard.axis.week"),
                    labelAngle=0,
                    labelOverlap=True,
                ),
            },
            "y": {
                "field": "tonnes",
                "type": "quantitative",
                "axis": _axis(say("dashboard.axis.tonnes"), tickCount=4),
            },
            "color": _now_colour(),
            "tooltip": _tips(("label", say("dashboard.axis.week")),
                             ("shown", say("dashboard.column.grams"))),
        },
    )  # fmt: skip


def _now_colour() -> dict[str, Any]:
    return {
        "condition": {"test": "datum.now", "value": GREEN},
        "value": PALE,
    }


def weekly_rate(
    rows: Sequence[Row],
    say: Say,
    *,
    ends: tuple[float, float],
    title: str = "",
    height: int = 150,
) -> dict[str, Any]:
    """Points and intervals of grams a diner, by week.

    Args:
        rows: have "label", "per_diner", "low", "high", "shown", "now".
        say: tells texts.
        ends: of the axis, so that charts side by side compare.
        title: above it.
        height: in pixels.
    """
    x = {
        "field": "label",
        "type": "ordinal",
        "sort": None,
        "axis": _axis(
            None if title else say("dashboard.axis.week"),
            labelAngle=0,
            labelOverlap=True,
        ),
    }
    y = {
        "type": "quantitative",
        "scale": {"domain": list(ends), "nice": True, "zero": False},
        "axis": _axis(
            None if title else say("dashboard.axis.rate"), tickCount=4
        ),
    }
    tips = _tips(
        ("label", say("dashboard.axis.week")),
        ("shown", say("dashboard.column.per_diner")),
    )
    layers = [
        {
            "transform": [{"filter": "isValid(datum.low)"}],
            "mark": {"type": "rule", "strokeWidth": 5, "color": BAND},
            "encoding": {
                "x": x,
                "y": {"field": "low", **y},
                "y2": {"field": "high"},
            },
        },
        {
            "mark": {"type": "line", "color": GREY, "strokeWidth": 1},
            "encoding": {"x": x, "y": {"field": "per_diner", **y}},
        },
        {
            "mark": {"type": "point", "filled": True, "size": 40, "opacity": 1},
            "encoding": {
                "x": x,
                "y": {"field": "per_diner", **y},
                "color": {
                    "condition": {"test": "datum.now", "value": GREEN},
                    "value": GREY,
                },
                "tooltip": tips,
            },
        },
    ]
    made = _chart(
        say("dashboard.chart.weekly_rate", title=title),
        rows,
        height,
        layer=layers,
    )
    if title:
        # Beside it, since a title within it does not wrap.
        made["usermeta"] = {"caption": title}
    return made


def heat(
    rows: Sequence[Row], days: Sequence[str], meals: Sequence[str], say: Say
) -> dict[str, Any]:
    """Day by meal; rows have "weekday", "meal_name", "kilos", "shown"."""
    return _chart(
        say("dashboard.chart.heat"),
        rows,
        _AXES + 45 + 36 * len(meals),  # And a legend.
        mark={"type": "rect", "stroke": "#fff", "strokeWidth": 2},
        encoding={
            "x": {
                "field": "weekday",
                "type": "ordinal",
                "scale": {"domain": list(days)},
                "axis": _axis(None, labelAngle=0, orient="top"),
            },
            "y": {
                "field": "meal_name",
                "type": "ordinal",
                "scale": {"domain": list(meals)},
                "axis": _axis(None),
            },
            "color": {
                "field": "kilos",
                "type": "quantitative",
                "scale": {"range": list(HEAT), "zero": True},
                "legend": {
                    "title": say("dashboard.axis.kilos"),
                    "orient": "bottom",
                    "gradientThickness": 10,
                },
            },
            "tooltip": _tips(
                ("weekday", say("dashboard.column.day")),
                ("meal_name", say("dashboard.column.meal")),
                ("shown", say("dashboard.column.grams")),
            ),
        },
    )


def bars(
    rows: Sequence[Row],
    say: Say,
    *,
    axis: str,
    description: str,
    interval: bool = True,
) -> dict[str, Any]:
    """Bars of "value" by "label", as given; with "low" and "high"."""
    y = {
        "field": "label",
        "type": "nominal",
        "sort": None,
        "axis": _axis(None, labelLimit=150),
    }
    x = {"type": "quantitative", "axis": _axis(axis, tickCount=5)}
    layers: list[dict[str, Any]] = [
        {
            "mark": {"type": "bar", "color": GREEN},
            "encoding": {
                "y": y,
                "x": {"field": "value", **x},
                "tooltip": _tips(
                    ("label", say("dashboard.column.what")), ("shown", axis)
                ),
            },
        }
    ]
    if interval:
        layers.append(
            {
                "transform": [{"filter": "isValid(datum.low)"}],
                "mark": {"type": "rule", "color": ORANGE, "strokeWidth": 2},
                "encoding": {
                    "y": y,
                    "x": {"field": "low", **x},
                    "x2": {"field": "high"},
                },
            }
        )
    return _chart(description, rows, _AXES + 26 * len(rows), layer=layers)


def _days_axis() -> dict[str, Any]:
    return {
        "type": "temporal",
        "scale": {"type": "utc"},
        "axis": _axis(
            None, format="%-d/%-m", tickCount=6, grid=False, labelOverlap=True
        ),
    }


def _band(band: Row | None, x: dict[str, Any]) -> list[dict[str, Any]]:
    """The campaign, behind what is measured."""
    if band is None:
        return []
    within = {"data": {"values": [dict(band)]}}
    return [
        {
            **within,
            "mark": {"type": "rect", "color": "#e3f0e8"},
            "encoding": {
                "x": {"field": "starts", **x},
                "x2": {"field": "until"},
            },
        },
        {
            **within,
            "mark": {
                "type": "text",
                "align": "left",
                "baseline": "top",
                "dx": 4,
                "dy": 4,
                "y": 0,
                "color": GREEN,
                "fontSize": 12,
            },
            "encoding": {
                "x": {"field": "starts", **x},
                "text": {"field": "name"},
            },
        },
    ]


def daily_rate(
    rows: Sequence[Row], band: Row | None, say: Say
) -> dict[str, Any]:
    """Grams a diner by day, the fit and what the days before lead to expect.

    Args:
        rows: have "noon", "per_diner", and where there is an estimate
            "fit", "without", "low" and "high"; in order, one at least.
        band: "starts", "until" and "name" of the campaign.
        say: tells texts.
    """
    x = _days_axis()
    y = {
        "type": "quantitative",
        "scale": {"zero": False, "nice": True},
        "axis": _axis(say("dashboard.axis.rate"), tickCount=5),
    }
    at = {"field": "noon", **x}
    known = {"transform": [{"filter": "isValid(datum.fit)"}]}
    line = {"x": at, "y": {"field": "without", **y}}
    layers = [
        *_band(band, x),
        {
            **known,
            "mark": {"type": "area", "color": ORANGE, "opacity": 0.18},
            "encoding": {
                "x": at,
                "y": {"field": "low", **y},
                "y2": {"field": "high"},
            },
        },
        {
            **known,
            "mark": {"type": "line", "color": ORANGE, "strokeDash": [5, 4]},
            "encoding": line,
        },
        {
            **known,
            "mark": {"type": "line", "color": GREEN, "strokeWidth": 2},
            "encoding": {"x": at, "y": {"field": "fit", **y}},
        },
        {
            "transform": [{"filter": "isValid(datum.per_diner)"}],
            "mark": {"type": "point", "filled": True, "size": 34,
                     "color": "#1c2321", "opacity": 1},
            "encoding": {
                "x": at,
                "y": {"field": "per_diner", **y},
                "tooltip": _tips(
                    ("label", say("dashboard.column.day")),
                    ("shown", say("dashboard.column.per_diner")),
                ),
            },
        },
    ]  # fmt: skip
    return _chart(say("dashboard.chart.daily_rate"), rows, 240, layer=layers)


def daily_actions(
    rows: Sequence[Row], band: Row | None, say: Say
) -> dict[str, Any]:
    """Bars of actions by day; rows have "day", "until" and "actions"."""
    x = _days_axis()
    bar = {
        "mark": {"type": "bar", "color": GREEN},
        "encoding": {
            "x": {"field": "day", **x},
            "x2": {"field": "until"},
            "y": {
                "field": "actions",
                "type": "quantitative",
                "axis": _axis(say("dashboard.axis.actions"), tickCount=3),
            },
            "y2": {"datum": 0},
            "tooltip": _tips(
                ("label", say("dashboard.column.day")),
                ("actions", say("dashboard.column.actions")),
            ),
        },
    }
    shade = _band(band, x)[:1]
    return _chart(
        say("dashboard.chart.daily_actions"), rows, 110, layer=[*shade, bar]
    )


__all__ = [
    "bars",
    "daily_actions",
    "daily_rate",
    "heat",
    "weekly_mass",
    "weekly_rate",
]
