"""Grafana dashboards from a few plain values: panels in rows, laid out by themselves.

Source: Grafana documentation, "Dashboard JSON model" (schema version 39).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

WIDTH = 24
"""Columns of Grafana's grid."""
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
_SCHEMA = 39


@dataclass(frozen=True)
class Query:
    """One PromQL expression of a panel, and how its series are called."""

    expr: str
    legend: str = ""
    exemplars: bool = False
    """Whether Grafana also asks for traces of single observations."""


@dataclass(frozen=True, kw_only=True)
class Panel:
    """A graph, or a number if ``kind`` is ``stat``."""

    title: str
    about: str
    """What it tells and what to make of it; shown at the panel's corner."""
    queries: Sequence[Query]
    unit: str = "short"
    """Grafana's id of the unit."""
    kind: str = "timeseries"
    width: int = 8
    height: int = 8
    stacked: bool = False
    most: float | None = None
    """Upper end of the axis."""
    red_below: float | None = None
    """A number below this is red."""
    red_above: float | None = None
    """A number, or what is above this line, is red."""


@dataclass(frozen=True)
class Row:
    """A heading and the panels under it."""

    title: str
    panels: Sequence[Panel]


@dataclass(frozen=True, kw_only=True)
class Dashboard:
    """A page of rows."""

    uid: str
    title: str
    about: str
    rows: Sequence[Row]
    links: Sequence[str] = field(default_factory=tuple)
    """Tags of dashboards that are linked at the top."""

    def to_json(self) -> dict[str, Any]:
        """Return what Grafana reads."""
        return {
            "uid": self.uid,
            "title": self.title,
            "description": self.about,
            "tags": ["haulyard"],
            "schemaVersion": _SCHEMA,
            "version": 1,
            "editable": False,
            "graphTooltip": 1,
            "refresh": "30s",
            "time": {"from": "now-6h", "to": "now"},
            "timezone": "browser",
            "links": [{"type": "dashboards", "tags": list(self.links), "title": "Haulyard", "asDropdown": True}],
            "templating": {
                "list": [
                    {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus"},
                ]
            },
            "panels": self._panels(),
        }

    def _panels(self) -> list[dict[str, Any]]:
        made: list[dict[str, Any]] = []
        top = 0
        for row in self.rows:
            place = {"x": 0, "y": top, "w": WIDTH, "h": 1}
            made.append({"id": len(made) + 1, "type": "row", "title": row.title, "gridPos": place, "panels": []})
            top += 1
            left = tallest = 0
            for panel in row.panels:
                if left + panel.width > WIDTH:
                    top, left, tallest = top + tallest, 0, 0
                place = {"x": left, "y": top, "w": panel.width, "h": panel.height}
                made.append({"id": len(made) + 1, "gridPos": place, **_panel(panel)})
                left, tallest = left + panel.width, max(tallest, panel.height)
            top += tallest
        return made


def _panel(panel: Panel) -> dict[str, Any]:
    defaults: dict[str, Any] = {"unit": panel.unit, "min": 0, "thresholds": _thresholds(panel)}
    if panel.most is not None:
        defaults["max"] = panel.most
    options: dict[str, Any]
    if panel.kind == "stat":
        options = {"reduceOptions": {"calcs": ["lastNotNull"]}, "colorMode": "value", "graphMode": "none"}
        defaults["color"] = {"mode": "thresholds"}
    else:
        options = {
            "legend": {"displayMode": "list", "placement": "bottom"},
            "tooltip": {"mode": "multi", "sort": "desc"},
        }
        defaults["custom"] = {
            "fillOpacity": 20 if panel.stacked else 5,
            "stacking": {"mode": "normal" if panel.stacked else "none"},
            "thresholdsStyle": {"mode": "off" if panel.red_above is None else "line"},
            "showPoints": "never",
        }
    return {
        "type": panel.kind,
        "title": panel.title,
        "description": panel.about,
        "datasource": DATASOURCE,
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": options,
        "targets": [_target(number, query, panel.kind) for number, query in enumerate(panel.queries)],
    }


def _target(number: int, query: Query, kind: str) -> dict[str, Any]:
    return {
        "refId": chr(ord("A") + number),
        "datasource": DATASOURCE,
        "expr": query.expr,
        "legendFormat": query.legend or "__auto",
        "range": kind != "stat",
        "instant": kind == "stat",
        "exemplar": query.exemplars,
    }


def _thresholds(panel: Panel) -> dict[str, Any]:
    steps: list[dict[str, Any]] = [{"color": "green", "value": None}]
    if panel.red_below is not None:
        steps = [{"color": "red", "value": None}, {"color": "green", "value": panel.red_below}]
    elif panel.red_above is not None:
        steps.append({"color": "red", "value": panel.red_above})
    return {"mode": "absolute", "steps": steps}
