"""What Grafana's alerting consists of, from generated files and from a running Grafana. Pure.

A thing has the document that Grafana's HTTP API has of it, with `$SQUASH_URL` and
`$SQUASH_SLACK_URL` where the files have them: the API knows no variables, so who sends a document
puts the values in. Source: Grafana's documentation, "Alerting Provisioning HTTP API", 11.6, and
"Use configuration files to provision alerting resources".
"""

import re
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from squash_api.generate.grafana.alerting_texts import ABOUT, ROOT, ROUTE, TEMPLATE
from squash_api.generate.grafana.connections import given_text
from squash_api.generate.servers import Thing, covers

URL = "$SQUASH_URL"
SLACK_URL = "$SQUASH_SLACK_URL"

POLICY = "SQuaSH"
"""The name of all routes of ours together."""

_OF_REQUESTS = frozenset({"", "api"})
_UID_PREFIX = "squash-"
_MUTE = re.compile(r"SQuaSH (?:through|after) [0-9]{4}-[0-9]{2}-[0-9]{2}")
_DURATION = re.compile(r"([0-9]+)(ms|[smhdwy])")
_UNIT_S = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800, "y": 31536000}
# What changes how a rule or a route works, and no generated one has.
_UNUSED_OF_RULES = ("notification_settings", "record")
_UNUSED_OF_ROUTES = ("continue", "match", "match_re", "matchers", "routes", "active_time_intervals")
_COMPARED_OF_RULES = ("title", "condition", "data", "noDataState", "execErrState")


@dataclass(frozen=True, slots=True)
class AlertingThing(Thing):
    """Something of Grafana's alerting, by its name or its uid.

    Parameters
    ----------
    document
        As the API has it.
    provenance
        What it came from: `file`, `api`, or empty for Grafana's own pages.
    """

    kind: ClassVar[str]
    name: str
    document: Mapping[str, Any]
    provenance: str = ""

    @property
    def is_of_requests(self) -> bool:
        """Whether requests may change it."""
        return self.provenance in _OF_REQUESTS

    @property
    @abstractmethod
    def essence(self) -> Any:
        """What it does, written in one way only."""

    def equals(self, other: Any) -> bool:
        """Return whether another thing does the same, whatever a server adds."""
        return isinstance(other, type(self)) and covers(
            self.essence, other.essence, given=frozenset()
        )


class Template(AlertingThing):
    """A template of messages."""

    __slots__ = ()
    kind = "Grafana template"

    @property
    def is_ours(self) -> bool:
        """Whether it was generated: it has the name of ours, and parts with that name."""
        return self.name == TEMPLATE and f'define "{TEMPLATE}.' in self.essence

    @property
    def essence(self) -> str:
        """Its text; servers trim it."""
        return str(self.document.get("template")).strip()


class ContactPoint(AlertingThing):
    """Where messages go, by the uid: one receiver of a contact point."""

    __slots__ = ()
    kind = "Grafana contact point"

    @property
    def is_ours(self) -> bool:
        """Whether it was generated: it has a uid like ours, and our template."""
        text = str(_part(self.document, "settings").get("text"))
        return self.name.startswith(_UID_PREFIX) and f'"{TEMPLATE}.' in text

    @property
    def essence(self) -> Any:
        """All but the address, which servers do not show."""
        settings = _part(self.document, "settings")
        return {
            "name": self.document.get("name"),
            "type": self.document.get("type"),
            "settings": {key: value for key, value in settings.items() if key != "url"},
            "is_quiet": bool(self.document.get("disableResolveMessage")),
        }


class MuteTiming(AlertingThing):
    """Days on which nobody is told."""

    __slots__ = ()
    kind = "Grafana mute timing"

    @property
    def is_ours(self) -> bool:
        """Whether it was generated: it has a name like ours."""
        return _MUTE.fullmatch(self.name) is not None

    @property
    def essence(self) -> Any:
        """Its intervals; one day alone may be written as a range, too."""
        return [
            sorted((key, _ranges(value)) for key, value in item.items() if value)
            for item in self.document.get("time_intervals") or ()
        ]


class Policy(AlertingThing):
    """The notification policies of the organisation, of which some routes are ours.

    Its document is the whole tree, or has our routes alone if it comes from a file.
    """

    __slots__ = ()
    kind = "Grafana notification policy"

    @property
    def is_ours(self) -> bool:
        """Whether routes in it were generated."""
        return any(map(is_our_route, _routes(self.document)))

    @property
    def essence(self) -> Any:
        """Our routes; no two of them match the same alerts, so their order says nothing."""
        found = map(_essence_of_route, filter(is_our_route, _routes(self.document)))
        return sorted(found, key=lambda route: str(route["object_matchers"]))


class RuleGroup(AlertingThing):
    """The alert rules on a metric, or on the service itself."""

    __slots__ = ()
    kind = "Grafana rule group"

    @property
    def rules(self) -> list[Mapping[str, Any]]:
        """Its rules, also those of others."""
        return [item for item in self.document.get("rules") or () if isinstance(item, Mapping)]

    @property
    def is_ours(self) -> bool:
        """Whether rules in it were generated."""
        return any(map(is_our_rule, self.rules))

    @property
    def is_idle(self) -> bool:
        """Whether all rules are paused."""
        return all(rule.get("isPaused") for rule in self.rules)

    @property
    def essence(self) -> Any:
        """How often it is looked at, and our rules."""
        ours = {
            str(rule.get("uid")): _essence_of_rule(rule) for rule in filter(is_our_rule, self.rules)
        }
        # A rule more differs, too, which a mapping would not show.
        return {"interval": self.document.get("interval"), "uids": sorted(ours), "rules": ours}


def is_our_rule(rule: Mapping[str, Any]) -> bool:
    """Return whether a rule was generated: it has the labels that ours have."""
    return {ABOUT, ROUTE} <= _part(rule, "labels").keys()


def is_our_route(route: Mapping[str, Any]) -> bool:
    """Return whether a route was generated: it matches one value of the label that is ours."""
    matchers = route.get("object_matchers") or ()
    return [list(item[:2]) for item in matchers] == [[ROUTE, "="]]


def merged_routes(tree: Mapping[str, Any], ours: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return a tree of policies with our routes in place of those of ours that it has.

    They stand where the first of these stood, or else before all others: they match the alerts of
    our rules alone, and a route of others that matches everything would take these from them.
    """
    there = _routes(tree)
    place = next((place for place, route in enumerate(there) if is_our_route(route)), 0)
    others = [route for route in there if not is_our_route(route)]
    found = {key: value for key, value in tree.items() if key != "provenance"}
    return {**found, "routes": [*others[:place], *ours, *others[place:]]}


def with_url(rule: Mapping[str, Any], url: str) -> dict[str, Any]:
    """Return a rule with another text in the label that names the service; none if it is empty."""
    labels = {key: text for key, text in _part(rule, "labels").items() if key != ROOT}
    return {**rule, "labels": {**labels, **({ROOT: url} if url else {})}}


def things_of(document: Mapping[str, Any]) -> Iterator[AlertingThing]:
    """Yield the things in a file of Grafana's provisioning."""
    for item in document.get("templates") or ():
        yield Template(item["name"], {"template": item["template"]})
    for point in document.get("contactPoints") or ():
        for receiver in point["receivers"]:
            yield _contact_point(point["name"], receiver)
    for item in document.get("muteTimes") or ():
        yield MuteTiming(item["name"], {key: item[key] for key in ("name", "time_intervals")})
    for item in document.get("policies") or ():
        yield Policy(POLICY, {"routes": [_route(route) for route in item["routes"]]})
    for group in document.get("groups") or ():
        rules = [_rule(rule, group) for rule in group["rules"]]
        interval = int(_seconds(group["interval"]))
        yield RuleGroup(
            group["name"], {"title": group["name"], "interval": interval, "rules": rules}
        )


def _contact_point(name: str, receiver: Mapping[str, Any]) -> ContactPoint:
    settings = {
        key: text if text == SLACK_URL else given_text(text)
        for key, text in receiver["settings"].items()
    }
    return ContactPoint(
        receiver["uid"], {**receiver, "name": given_text(name), "settings": settings}
    )


def _route(route: Mapping[str, Any]) -> dict[str, Any]:
    matchers = [[*map(given_text, item)] for item in route["object_matchers"]]
    return {**route, "receiver": given_text(route["receiver"]), "object_matchers": matchers}


def _rule(rule: Mapping[str, Any], group: Mapping[str, Any]) -> dict[str, Any]:
    labels = {
        key: text if text == URL else given_text(text) for key, text in rule["labels"].items()
    }
    return {
        **rule,
        "title": given_text(rule["title"]),
        "labels": labels,
        "orgID": group["orgId"],
        "ruleGroup": group["name"],
    }


def _essence_of_rule(rule: Mapping[str, Any]) -> dict[str, Any]:
    return {
        **{key: rule.get(key) for key in _COMPARED_OF_RULES},
        "is_paused": bool(rule.get("isPaused")),
        "for": _seconds(rule.get("for")),
        "keep_firing_for": _seconds(rule.get("keep_firing_for")),
        # All of them, so that one that was added by hand is seen.
        "labels": sorted(_part(rule, "labels").items()),
        "annotations": sorted(_part(rule, "annotations").items()),
        **{key: rule.get(key) or None for key in _UNUSED_OF_RULES},
    }


def _essence_of_route(route: Mapping[str, Any]) -> dict[str, Any]:
    return {
        **{key: route.get(key) for key in ("receiver", "object_matchers", "group_by")},
        "mute_time_intervals": route.get("mute_time_intervals") or [],
        **{
            key: _seconds(route.get(key))
            for key in ("group_wait", "group_interval", "repeat_interval")
        },
        **{key: route.get(key) or None for key in _UNUSED_OF_ROUTES},
    }


def _routes(tree: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [item for item in tree.get("routes") or () if isinstance(item, Mapping)]


def _part(document: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """Return an object in another; empty if it is something else."""
    found = document.get(key)
    return found if isinstance(found, Mapping) else {}


def _seconds(text: Any) -> float:
    """Return a duration such as `1h30m` in seconds; 0 without one."""
    return sum(int(number) * _UNIT_S[unit] for number, unit in _DURATION.findall(str(text or "")))


def _ranges(found: str | Iterable[Any]) -> Any:
    if isinstance(found, str):
        return found
    parts = (str(item).partition(":") for item in found)
    return [first if last in ("", first) else f"{first}:{last}" for first, _, last in parts]
