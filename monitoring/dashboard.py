#!/usr/bin/env python3
"""Writes dashboard.json: the Grafana dashboard for cutout workers.

    monitoring/dashboard.py           writes the file beside this one
    monitoring/dashboard.py --check   says whether that file is what this script writes

What it shows stands in rows.py, how a kind of panel looks in looks.py; here are the places of the panels,
the variables and the markers.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from looks import BLUE, RED, SOURCE, WHERE
from rows import ROWS

FILE = Path(__file__).with_name("dashboard.json")

# Grafana 10.0's; later releases migrate it when they open it.
SCHEMA = 38
# Where the runbook can be read is the reader's to say: the variable `runbook` holds its address.
RUNBOOK = "https://git.example.com/cutout/blob/main/docs/operations.md"
WIDTH = 24


def laid_out() -> list[dict]:
    """All rows, with ids and places: panels fill a line from the left, and begin a new one when it is full."""
    rows: list[dict] = []
    top = number_of = 0
    for title, panels, folded in ROWS:
        number_of += 1
        head = {
            "id": number_of,
            "type": "row",
            "title": title,
            "collapsed": folded,
            "gridPos": {"x": 0, "y": top, "w": WIDTH, "h": 1},
            "panels": [],
        }
        top += 1
        left = tallest = 0
        placed = []
        for one in panels:
            number_of += 1
            size = one["gridPos"]
            if left + size["w"] > WIDTH:
                top, left, tallest = top + tallest, 0, 0
            placed.append({"id": number_of, **one, "gridPos": {"x": left, "y": top, **size}})
            left += size["w"]
            tallest = max(tallest, size["h"])
        # What is folded away takes no room: unfolding it moves what is below.
        top = head["gridPos"]["y"] + 1 if folded else top + tallest
        rows.append({**head, "panels": placed if folded else []})
        rows += [] if folded else placed
    return rows


def choice(name: str, label: str, values: str) -> dict:
    """A variable whose values Prometheus knows, all of them chosen at first."""
    return {
        "name": name,
        "label": label,
        "type": "query",
        "datasource": SOURCE,
        "query": {"query": values, "refId": name},
        "refresh": 2,
        "sort": 1,
        "multi": True,
        "includeAll": True,
        "allValue": ".+",
        "current": {"selected": True, "text": ["All"], "value": ["$__all"]},
    }


def marker(name: str, color: str, expr: str, title: str, text: str, at_value: bool) -> dict:
    """Moments that are drawn into every panel. `at_value`: the moment is the series' value, in milliseconds."""
    return {
        "name": name,
        "datasource": SOURCE,
        "enable": True,
        "iconColor": color,
        "expr": expr.replace("@", WHERE),
        "step": "60s",
        "titleFormat": title,
        "textFormat": text,
        "useValueForTime": at_value,
    }


def dashboard() -> dict:
    """The whole dashboard, as Grafana imports it."""
    quantile = {"0.5": False, "0.95": True, "0.99": False}
    return {
        "uid": "cutout-workers",
        "title": "cutout workers",
        "description": "Background removal: is anything wrong, how quickly are photos done, what is full. "
        "Written by monitoring/dashboard.py.",
        "tags": ["cutout"],
        "schemaVersion": SCHEMA,
        "editable": True,
        "graphTooltip": 1,
        "timezone": "browser",
        "time": {"from": "now-6h", "to": "now"},
        "refresh": "1m",
        "timepicker": {"refresh_intervals": ["10s", "30s", "1m", "5m", "15m", "1h"]},
        "links": [
            {
                "title": "Runbook",
                "type": "link",
                "icon": "doc",
                "url": "${runbook:raw}",
                "tooltip": "docs/operations.md; its address is the variable `runbook`",
                "targetBlank": True,
                "asDropdown": False,
                "includeVars": False,
                "keepTime": False,
                "tags": [],
            }
        ],
        "annotations": {
            "list": [
                marker(
                    "Starts of workers",
                    BLUE,
                    "process_start_time_seconds{@} * 1000 and on (job, instance) cutout_build_info{@}",
                    "start",
                    "{{instance}}",
                    True,
                ),
                marker(
                    "Alerts",
                    RED,
                    'max by (alertname, severity) (ALERTS{alertname=~"Cutout.+",alertstate="firing"})',
                    "{{alertname}}",
                    "{{severity}}",
                    False,
                ),
            ]
        },
        "templating": {
            "list": [
                {
                    "name": "datasource",
                    "label": "Data source",
                    "type": "datasource",
                    "query": "prometheus",
                    "multi": False,
                    "includeAll": False,
                },
                choice("job", "Deployment", "label_values(cutout_build_info, job)"),
                choice("instance", "Worker", 'label_values(cutout_build_info{job=~"$job"}, instance)'),
                {
                    "name": "quantile",
                    "label": "Quantile",
                    "type": "custom",
                    "query": ",".join(quantile),
                    "multi": False,
                    "includeAll": False,
                    "current": {"selected": True, "text": "0.95", "value": "0.95"},
                    "options": [
                        {"selected": chosen, "text": value, "value": value} for value, chosen in quantile.items()
                    ],
                },
                {
                    "name": "runbook",
                    "label": "Runbook's address",
                    "type": "textbox",
                    "query": RUNBOOK,
                    "current": {"selected": True, "text": RUNBOOK, "value": RUNBOOK},
                },
            ]
        },
        "panels": laid_out(),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing, exit 1 if the file differs")
    text = json.dumps(dashboard(), indent=2) + "\n"
    if parser.parse_args().check:
        if FILE.read_text() != text:
            print(f"{FILE.name} is not what monitoring/dashboard.py writes: run it", file=sys.stderr)
            return 1
        return 0
    FILE.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
