"""Grafana's provisioning of alerts: rules, and whom they are told to. Pure.

With `alerts_by` `grafana` there are contact points, a notification policy, mute timings and the
template of messages too. Otherwise Kapacitor tells people, and all rules are paused. Contact points
contain no secret: Slack's URL comes from Grafana's environment.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date, timedelta
from typing import Any

import yaml

from squash_api.generate.grafana.alerting_rules import (
    Route,
    Rule,
    late_rule,
    metric_rules,
    own_rules,
)
from squash_api.generate.grafana.alerting_texts import (
    ABOUT,
    LEVEL,
    METRIC,
    ROOT,
    ROUTE,
    TEMPLATE,
    message_template,
    plain,
)
from squash_api.generate.grafana.connections import (
    PROVISIONING,
    literal_text,
    uid_of,
    yaml_text,
)
from squash_api.generate.output import read_yaml
from squash_api.judging.alert_plan import expectations, watched_metrics
from squash_api.metrics_packages.loading import MetricsPackage
from squash_api.schema.names import Schema
from squash_api.setting_types import AlertsBy

ALERTING = f"{PROVISIONING}/alerting"
"""Where these files are."""

DELETED = f"{ALERTING}/deleted-rules.yaml"
"""The file with the uids of rules that are gone, or Grafana would keep them."""

ALERTS_FOLDER = "SQuaSH alerts"
"""The folder of the rules.

Grafana finds it by its title, and may make it before that of the dashboards, without its uid: with
the same title that one could then not be made.
"""

_ORGANISATION = 1
# As this module writes it; data sources have it deeper.
_UID = re.compile(r"^  (?:- )?uid: ([\w-]+)$", re.MULTILINE | re.ASCII)
_DEFAULT_RECEIVER = "grafana-default-email"
_NEVER = "52w"
_FIRST_YEAR = 1970
_GRAFANA_TELLS = "# Grafana tells people of these alerts: made with SQUASH_ALERTS_BY=grafana.\n"
_KAPACITOR_TELLS = (
    "# Kapacitor tells people of alerts, so these rules are paused: made with "
    "SQUASH_ALERTS_BY=kapacitor.\n"
)


def alerting_files(
    package: MetricsPackage, *, schema: Schema, retention_policy: str, alerts_by: AlertsBy
) -> dict[str, str]:
    """Return the files by path."""
    by_file = rules_of(package, schema)
    tells = alerts_by == "grafana"
    files: dict[str, dict[str, Any]] = {
        f"rules-{name}": {"groups": _groups(name, rules, retention_policy, is_paused=not tells)}
        for name, rules in by_file.items()
    }
    if tells:
        routes = sorted(
            {rule.route for rules in by_file.values() for rule in rules},
            key=lambda route: route.name,
        )
        files |= {
            "contact-points": {"contactPoints": _contact_points(routes)},
            "policy": {"policies": [_policy(routes)]},
            "templates": {"templates": [_template()]},
        }
        mutes = _mute_times(routes)
        if mutes:
            files["mute-timings"] = {"muteTimes": mutes}
    head = _GRAFANA_TELLS if tells else _KAPACITOR_TELLS
    return {
        f"{ALERTING}/{name}.yaml": f"{head}{yaml_text({'apiVersion': 1, **document})}"
        for name, document in files.items()
    }


def rules_of(package: MetricsPackage, schema: Schema) -> dict[str, list[Rule]]:
    """Return the rules by file: those of each verification package, and of the service itself."""
    specifications = package.specifications.values()
    found: dict[str, list[Rule]] = {}
    for watched in watched_metrics(specifications, package.metrics, schema):
        found.setdefault(watched.metric.package, []).extend(metric_rules(watched))
    for item in expectations(specifications, schema):
        if not item.is_trial:
            metric = package.metrics[item.metric]
            found.setdefault(metric.package, []).append(late_rule(item, metric))
    # No package has the name of the service.
    found["squash"] = [*own_rules()]
    return {name: rules for name, rules in found.items() if rules}


def with_deleted(files: Mapping[str, str], found: Mapping[str, str]) -> dict[str, str]:
    """Add the file that deletes the rules which files that were there have, or delete already.

    Grafana keeps a rule until it is told to delete it by its uid. What is generated from the same
    specifications in the same directory is the same, however often.
    """
    uids = {uid for path, text in found.items() if _is_ours(path) for uid in _uids(text)}
    uids -= {uid for path, text in files.items() if _is_ours(path) for uid in _uids(text)}
    if not uids:
        return dict(files)
    gone = [{"orgId": _ORGANISATION, "uid": uid} for uid in sorted(uids)]
    head = "# Rules that were generated once, and are no more.\n"
    document = yaml_text({"apiVersion": 1, "deleteRules": gone})
    return {**files, DELETED: f"{head}{document}"}


def mute_times(route: Route) -> dict[str, list[dict[str, Any]]]:
    """Return when a route tells nobody, as the time intervals of Grafana's mute timings by name.

    Days are those of UTC, as in `alert.mute`.
    """
    found = {}
    if route.after is not None:
        found[f"SQuaSH through {route.after}"] = _through(route.after)
    # After the last day that there is, nothing is muted.
    if route.through is not None and route.through != date.max:
        found[f"SQuaSH after {route.through}"] = _after(route.through)
    return found


def _is_ours(path: str) -> bool:
    return path.startswith(f"{ALERTING}/")


def _uids(text: str) -> Iterator[str]:
    """Yield the uids of rules in a file, also if a merge has left its marks in it."""
    try:
        document = read_yaml(text)
        gone = [item["uid"] for item in document.get("deleteRules") or ()]
        rules = [rule["uid"] for group in document.get("groups") or () for rule in group["rules"]]
    except (yaml.YAMLError, AttributeError, KeyError, TypeError):
        if "ules:\n" in text:
            yield from _UID.findall(text)
    else:
        yield from (*gone, *rules)


def _groups(
    package: str, rules: Sequence[Rule], retention_policy: str, *, is_paused: bool
) -> list[dict[str, Any]]:
    """Return a group for each metric, so that its levels are looked at together."""
    by_name: dict[str, list[dict[str, Any]]] = {}
    for rule in rules:
        found = _rule(rule, retention_policy, is_paused=is_paused)
        by_name.setdefault(rule.metric or package, []).append(found)
    return [
        {
            "orgId": _ORGANISATION,
            "name": name,
            "folder": ALERTS_FOLDER,
            "interval": "1m",
            "rules": found,
        }
        for name, found in sorted(by_name.items())
    ]


def _rule(rule: Rule, retention_policy: str, *, is_paused: bool) -> dict[str, Any]:
    labels = {
        LEVEL: rule.level,
        ABOUT: rule.about,
        METRIC: rule.metric,
        ROUTE: rule.route.name,
    }
    return {
        "uid": rule.uid,
        "title": literal_text(rule.title),
        "condition": "Z",
        "data": rule.data(retention_policy=retention_policy),
        "noDataState": rule.no_data,
        "execErrState": rule.error,
        "for": "0s",
        # Both are templates; Grafana replaces variables in labels alone.
        "annotations": {key: text for key, text in rule.annotations.items() if text},
        "labels": {
            **{key: literal_text(plain(text)) for key, text in labels.items() if text},
            ROOT: "$SQUASH_URL",
        },
        "isPaused": is_paused,
    }


def _contact_points(routes: Iterable[Route]) -> list[dict[str, Any]]:
    channels = sorted({route.channel or "" for route in routes})
    return [
        {
            "orgId": _ORGANISATION,
            "name": _contact_point(channel),
            "receivers": [
                {
                    "uid": uid_of("squash", channel or "default"),
                    "type": "slack",
                    "settings": {
                        "url": "$SQUASH_SLACK_URL",
                        **({"recipient": literal_text(channel)} if channel else {}),
                        "title": f'{{{{ template "{TEMPLATE}.title" . }}}}',
                        "text": f'{{{{ template "{TEMPLATE}.text" . }}}}',
                    },
                    "disableResolveMessage": False,
                }
            ],
        }
        for channel in channels
    ]


def _contact_point(channel: str | None) -> str:
    return literal_text(f"SQuaSH {channel or 'default'}")


def _policy(routes: Sequence[Route]) -> dict[str, Any]:
    """Return the policy, which replaces the whole tree of the organisation."""
    return {
        "orgId": _ORGANISATION,
        "receiver": _DEFAULT_RECEIVER,
        "group_by": ["grafana_folder", "alertname"],
        "routes": [
            {
                "receiver": _contact_point(route.channel),
                "object_matchers": [[ROUTE, "=", literal_text(route.name)]],
                "group_by": [*(() if route.is_of_all else (ABOUT,)), *route.by] or ["..."],
                "group_wait": "1m" if route.waits else "10s",
                "group_interval": "1m",
                # Only changes are told, as by Kapacitor.
                "repeat_interval": _NEVER,
                **({"mute_time_intervals": list(mutes)} if (mutes := mute_times(route)) else {}),
            }
            for route in routes
        ],
    }


def _template() -> dict[str, Any]:
    return {"orgId": _ORGANISATION, "name": TEMPLATE, "template": message_template()}


def _mute_times(routes: Iterable[Route]) -> list[dict[str, Any]]:
    found: dict[str, list[dict[str, Any]]] = {}
    for route in routes:
        found |= mute_times(route)
    return [
        {"orgId": _ORGANISATION, "name": name, "time_intervals": intervals}
        for name, intervals in sorted(found.items())
    ]


def _through(day: date) -> list[dict[str, Any]]:
    """Return the time intervals that have all days through one."""
    year, month = str(day.year), str(day.month)
    earlier = range(_FIRST_YEAR, day.year)
    found: list[dict[str, Any]] = [{"years": [f"{earlier[0]}:{earlier[-1]}"]}] if earlier else []
    if day.month > 1:
        found.append({"years": [year], "months": [f"1:{day.month - 1}"]})
    found.append({"years": [year], "months": [month], "days_of_month": [f"1:{day.day}"]})
    return [{**item, "location": "UTC"} for item in found]


def _after(day: date) -> list[dict[str, Any]]:
    """Return the time intervals that have all days after one."""
    found: list[dict[str, Any]] = []
    first = day + timedelta(days=1)
    year, month = str(first.year), str(first.month)
    found.append({"years": [year], "months": [month], "days_of_month": [f"{first.day}:31"]})
    if first.month < 12:
        found.append({"years": [year], "months": [f"{first.month + 1}:12"]})
    if first.year < date.max.year:
        found.append({"years": [f"{first.year + 1}:{date.max.year}"]})
    return [{**item, "location": "UTC"} for item in found]
