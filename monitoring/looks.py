"""How the panels of the dashboard look: a function for each kind of panel, and what they share.

The fields are those of Grafana's own schema; scripts/tests/test_dashboard.py holds them to it.
"""

from __future__ import annotations

SOURCE = {"type": "prometheus", "uid": "${datasource}"}
WHERE = 'job=~"$job",instance=~"$instance"'
"""What `@` in a query stands for: the matchers of the dashboard's variables."""

RED, ORANGE, GREEN, BLUE, PURPLE, GREY = "red", "orange", "green", "blue", "purple", "text"


def query(expr: str, legend: str = "", **more: object) -> dict:
    """One question to Prometheus; `legend` names its series out of their labels."""
    return {"expr": expr.replace("@", WHERE), "legendFormat": legend, "range": True, **more}


def now(expr: str, legend: str = "") -> dict:
    """The same for panels that show one moment."""
    return query(expr, legend, range=False, instant=True)


def listed(expr: str) -> dict:
    """The same for tables: a line for each series, a column for each label."""
    return query(expr, range=False, instant=True, format="table")


def steps(levels: dict[float, str] | None) -> dict:
    """Colours from these values on; green, or plain where nothing is good or bad, below."""
    first = {"color": GREEN if levels else GREY, "value": None}
    return {
        "mode": "absolute",
        "steps": [first, *({"color": color, "value": at} for at, color in (levels or {}).items())],
    }


def panel(
    kind: str,
    title: str,
    description: str,
    queries: list[dict],
    *,
    unit: str = "short",
    width: int = 8,
    height: int = 8,
    runbook: list[str] | None = None,
    levels: dict[float, str] | None = None,
    colors: dict[str, str] | None = None,
    options: dict | None = None,
    defaults: dict | None = None,
    **more: object,
) -> dict:
    """A panel of any kind. `runbook` names sections of the runbook, `levels` the values from which a colour
    holds, `colors` those of series by their names; `options` and `defaults` are the kind's own."""
    return {
        "type": kind,
        "title": title,
        "description": description,
        "datasource": SOURCE,
        "gridPos": {"w": width, "h": height},
        "targets": [
            {"refId": chr(ord("A") + number), "datasource": SOURCE, "editorMode": "code", **one}
            for number, one in enumerate(queries)
        ],
        "links": [
            {"title": f"Runbook: {anchor}", "url": f"${{runbook:raw}}#{anchor}", "targetBlank": True}
            for anchor in runbook or []
        ],
        "fieldConfig": {
            "defaults": {"unit": unit, "thresholds": steps(levels), **(defaults or {})},
            "overrides": [
                {
                    "matcher": {"id": "byName", "options": name},
                    "properties": [{"id": "color", "value": {"mode": "fixed", "fixedColor": color}}],
                }
                for name, color in (colors or {}).items()
            ],
        },
        "options": options or {},
        **more,
    }


def lines(
    title: str, description: str, queries: list[dict], *, stacked: str = "none", least: float | None = 0, **more: object
) -> dict:
    """Values over time. `stacked`: `none` or `normal`. Levels are drawn as dashed lines."""
    defaults: dict = {
        "color": {"mode": "palette-classic"},
        "custom": {
            "drawStyle": "line",
            "lineWidth": 1,
            "fillOpacity": 10 if stacked == "none" else 60,
            "showPoints": "never",
            "stacking": {"mode": stacked, "group": "A"},
            "thresholdsStyle": {"mode": "dashed" if more.get("levels") else "off"},
        },
    }
    if least is not None:
        defaults["min"] = least
    options = {
        "legend": {
            "displayMode": "table",
            "placement": "bottom",
            "showLegend": True,
            "calcs": ["mean", "max", "lastNotNull"],
        },
        "tooltip": {"mode": "multi", "sort": "desc"},
    }
    return panel("timeseries", title, description, queries, options=options, defaults=defaults, **more)


def number(title: str, description: str, queries: list[dict], *, none: str = "none", **more: object) -> dict:
    """One value, coloured by its level; `none` is what stands where there is no value."""
    options = {
        "colorMode": "background",
        "graphMode": "none",
        "justifyMode": "auto",
        "textMode": "auto",
        "orientation": "auto",
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
    }
    defaults = {"noValue": none, "color": {"mode": "thresholds"}, "decimals": more.pop("decimals", None)}
    defaults = {key: value for key, value in defaults.items() if value is not None}
    return panel("stat", title, description, queries, options=options, defaults=defaults, width=4, height=5, **more)


def states(title: str, description: str, queries: list[dict], **more: object) -> dict:
    """What is up and what is down, over time."""
    words = {
        "0": {"text": "down", "color": RED, "index": 0},
        "1": {"text": "up", "color": GREEN, "index": 1},
    }
    defaults = {
        "mappings": [{"type": "value", "options": words}],
        "color": {"mode": "thresholds"},
        "custom": {"fillOpacity": 80, "lineWidth": 0},
    }
    options = {
        "mergeValues": True,
        "showValue": "auto",
        "alignValue": "left",
        "rowHeight": 0.9,
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True, "calcs": []},
        "tooltip": {"mode": "single", "sort": "none"},
    }
    return panel("state-timeline", title, description, queries, options=options, defaults=defaults, **more)


def table(title: str, description: str, queries: list[dict], value: str = "", **more: object) -> dict:
    """A line for each series; `value` heads the column of the values, which is left out without it."""
    hidden = ["Time"] if value else ["Time", "Value"]
    organize = {"excludeByName": {name: True for name in hidden}, "renameByName": {"Value": value} if value else {}}
    return panel(
        "table",
        title,
        description,
        queries,
        options={"showHeader": True, "cellHeight": "sm"},
        defaults={"noValue": "none", "custom": {"align": "auto"}},
        transformations=[{"id": "organize", "options": organize}],
        **more,
    )


def heatmap(title: str, description: str, expr: str, **more: object) -> dict:
    """A histogram over time."""
    options = {
        "calculate": False,
        "yAxis": {"unit": "s"},
        "cellGap": 1,
        "color": {"mode": "scheme", "scheme": "Blues", "steps": 64},
        "tooltip": {"show": True, "yHistogram": False},
        "legend": {"show": True},
    }
    return panel("heatmap", title, description, [query(expr, "{{le}}", format="heatmap")], options=options, **more)


def bars(title: str, description: str, queries: list[dict], **more: object) -> dict:
    """One moment's values beside each other."""
    options = {
        "displayMode": "basic",
        "orientation": "horizontal",
        "showUnfilled": True,
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
    }
    return panel("bargauge", title, description, queries, options=options, defaults={"min": 0}, **more)


def quantiles(histogram: str, matchers: str = "@") -> list[dict]:
    """The median and the slow end of a histogram."""
    return [
        query(
            f"histogram_quantile({share}, sum by (le) (rate({histogram}_bucket{{{matchers}}}[$__rate_interval])))",
            f"p{share * 100:.0f}",
        )
        for share in (0.5, 0.95, 0.99)
    ]
