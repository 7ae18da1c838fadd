"""A running Grafana's alerting: reading it, and changing what is ours in it.

What is pushed is locked for Grafana's own pages, as what comes from files is; the tree of
notification policies, which is everybody's, stays as open as it was. Source: Grafana's
documentation, "Alerting Provisioning HTTP API", "Folder" and "Folder/Dashboard Search", 11.6.
"""

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

from squash_api.generate.grafana.alerting import ALERTS_FOLDER
from squash_api.generate.grafana.alerting_texts import ROOT
from squash_api.generate.grafana.alerting_things import (
    POLICY,
    SLACK_URL,
    URL,
    AlertingThing,
    ContactPoint,
    MuteTiming,
    Policy,
    RuleGroup,
    Template,
    is_our_rule,
    merged_routes,
    with_url,
)
from squash_api.generate.servers import Server, ServerError

FOLDER_UID = "squash-alerts"
"""The uid of the folder of rules, unless Grafana made it from a file, and with one of its own."""

_ROOT = "/api/v1/provisioning"
_POLICIES = f"{_ROOT}/policies"
_EDITABLE = {"X-Disable-Provenance": "true"}
_FROM_FILES = "update that in its folder provisioning/alerting, and restart it"


class Alerting:
    """The alerting of a Grafana, which asks for it and changes it.

    Rules name the service by the variable `SQUASH_URL` of the server, contact points Slack by
    `SQUASH_SLACK_URL`. If the first is not known, any that a rule has is right.
    """

    def __init__(self, server: Server) -> None:
        self._server = server
        self._url = server.variables.get(URL[1:], "")
        self._slack_url = server.variables.get(SLACK_URL[1:], "")

    def things(self) -> list[AlertingThing]:
        """Return all templates, contact points and mute timings, and the rules and routes of ours.

        Rules and routes of others are in the groups and the tree with ours.
        """
        found: list[AlertingThing] = [
            *(
                Template(str(item.get("name")), item, _provenance(item))
                for item in self._all(f"{_ROOT}/templates")
            ),
            *(
                ContactPoint(str(item.get("uid")), item, _provenance(item))
                for item in self._all(f"{_ROOT}/contact-points")
            ),
            *(
                MuteTiming(str(item.get("name")), item, _provenance(item))
                for item in self._all(f"{_ROOT}/mute-timings")
            ),
        ]
        policy = self._policy()
        if policy.is_ours:
            found.append(policy)
        return [*found, *self._groups()]

    def put(self, thing: AlertingThing, there: AlertingThing | None) -> None:
        """Create or replace a thing; of groups and the tree only what is ours."""
        _refuse_others(there)
        if isinstance(thing, RuleGroup):
            self._put_group(thing)
        elif isinstance(thing, Policy):
            self._put_routes(thing.document["routes"])
        elif isinstance(thing, Template):
            self._server.call("PUT", _path("templates", thing.name), document=thing.document)
        elif isinstance(thing, ContactPoint):
            self._save("contact-points", thing, there, document=self._addressed(thing.document))
        else:
            self._save("mute-timings", thing, there, document=thing.document)

    def remove(self, thing: AlertingThing) -> None:
        """Remove a thing; of groups and the tree only what is ours."""
        _refuse_others(thing)
        if isinstance(thing, RuleGroup):
            self._remove_rules(thing)
        elif isinstance(thing, Policy):
            self._put_routes([])
        else:
            kinds = {Template: "templates", ContactPoint: "contact-points"}
            self._server.call("DELETE", _path(kinds.get(type(thing), "mute-timings"), thing.name))

    def _groups(self) -> list[RuleGroup]:
        folder = self._folder()
        if folder is None:
            return []
        rules = self._all(f"{_ROOT}/alert-rules")
        names = {
            str(rule.get("ruleGroup"))
            for rule in rules
            if rule.get("folderUID") == folder and is_our_rule(rule)
        }
        found = [self._group(folder, name) for name in sorted(names)]
        return [group for group in found if group is not None]

    def _group(self, folder: str, name: str) -> RuleGroup | None:
        found = self._server.get(_group_path(folder, name))
        if found is None:
            return None
        rules = [self._as_in_file(rule) for rule in found.get("rules") or ()]
        locked = [
            provenance
            for rule in filter(is_our_rule, rules)
            if (provenance := _provenance(rule)) not in ("", "api")
        ]
        return RuleGroup(name, {**found, "rules": rules}, (*locked, "")[0])

    def _as_in_file(self, rule: Mapping[str, Any]) -> dict[str, Any]:
        """Return a rule with the variable in place of the right address of the service."""
        is_right = not self._url or (rule.get("labels") or {}).get(ROOT) == self._url
        return with_url(rule, URL) if is_our_rule(rule) and is_right else dict(rule)

    def _put_group(self, group: RuleGroup) -> None:
        if not self._url and not all(rule["isPaused"] for rule in group.rules):
            raise ServerError("set SQUASH_URL here: messages of these rules link to it")
        folder = self._folder()
        if folder is None:
            made = {"uid": FOLDER_UID, "title": ALERTS_FOLDER}
            folder = str(self._server.call("POST", "/api/folders", document=made)["uid"])
        there = self._group(folder, group.name)
        if there is not None:
            _refuse_others(there)
            _refuse_shared(there, group)
        document = {
            **group.document,
            "folderUid": folder,
            "rules": [{**with_url(rule, self._url), "folderUID": folder} for rule in group.rules],
        }
        try:
            self._server.call("PUT", _group_path(folder, group.name), document=document)
        except ServerError as error:
            if error.status_code != 500:
                raise
            # So it answers to uids of rules that it does not have.
            raise ServerError(
                f"{error}: a Grafana before 11.5.2 takes new rules from files alone"
            ) from error

    def _remove_rules(self, group: RuleGroup) -> None:
        """Remove our rules of a group one by one; those of others stay."""
        uids = [str(rule["uid"]) for rule in group.rules if is_our_rule(rule)]
        for number, uid in enumerate(uids):
            try:
                self._server.call("DELETE", _path("alert-rules", uid))
            except ServerError as error:
                words = f"removed {number} of {len(uids)} rules, but not {uid}: {error}"
                raise type(error)(words, status_code=error.status_code) from error

    def _policy(self) -> Policy:
        tree = self._server.get(_POLICIES) or {}
        return Policy(POLICY, tree, _provenance(tree))

    def _put_routes(self, ours: Sequence[Mapping[str, Any]]) -> None:
        """Write the tree with these routes of ours, as it is now in all else."""
        there = self._policy()
        _refuse_others(there)
        self._server.call(
            "PUT",
            _POLICIES,
            document=merged_routes(there.document, ours),
            headers=_EDITABLE if there.provenance == "" else None,
        )

    def _save(
        self,
        place: str,
        thing: AlertingThing,
        there: AlertingThing | None,
        *,
        document: Mapping[str, Any],
    ) -> None:
        if there is None:
            self._server.call("POST", f"{_ROOT}/{place}", document=document)
        else:
            self._server.call("PUT", _path(place, thing.name), document=document)

    def _addressed(self, point: Mapping[str, Any]) -> dict[str, Any]:
        if not self._slack_url:
            raise ServerError(
                "set SQUASH_SLACK_URL here: Grafana takes the address of Slack from the request"
            )
        return {**point, "settings": {**point["settings"], "url": self._slack_url}}

    def _folder(self) -> str | None:
        """Return the uid of the folder of rules; None if there is none."""
        if self._server.get(f"/api/folders/{FOLDER_UID}") is not None:
            return FOLDER_UID
        params = {"type": "dash-folder", "query": ALERTS_FOLDER}
        found = self._server.listed("/api/search", params=params)
        return next((str(item["uid"]) for item in found if item["title"] == ALERTS_FOLDER), None)

    def _all(self, path: str) -> list[dict[str, Any]]:
        """Return what a path lists; some answer 404 if there is nothing."""
        try:
            return self._server.listed(path)
        except ServerError as error:
            if error.status_code == 404:
                return []
            raise


def _refuse_others(there: AlertingThing | None) -> None:
    if there is None or there.is_of_requests:
        return
    if "file" in there.provenance:
        raise ServerError(f"the server reads it from a file: {_FROM_FILES}")
    raise ServerError(
        f"the server has it from elsewhere ({there.provenance}): change it there, or delete it"
    )


def _refuse_shared(there: RuleGroup, ours: RuleGroup) -> None:
    """Refuse to replace a group with rules of others, which would delete them."""
    # Somebody may have taken the labels from one of ours.
    uids = {rule["uid"] for rule in ours.rules}
    others = [
        str(rule.get("title"))
        for rule in there.rules
        if not is_our_rule(rule) and rule.get("uid") not in uids
    ]
    if others:
        raise ServerError(
            f"it has rules of others ({', '.join(others)}): move them to another group"
        )


def _provenance(document: Mapping[str, Any]) -> str:
    return str(document.get("provenance") or "")


def _path(place: str, name: str) -> str:
    return f"{_ROOT}/{place}/{quote(name, safe='')}"


def _group_path(folder: str, name: str) -> str:
    return f"{_ROOT}/folder/{quote(folder, safe='')}/rule-groups/{quote(name, safe='')}"
