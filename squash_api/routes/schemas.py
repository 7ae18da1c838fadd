"""The schemas of what routes answer, for the OpenAPI document.

`ANSWERS` says which type each operation answers with. msgspec makes schemas of the types, and the
texts below their fields become descriptions. Imported when the document is asked for.
"""

import ast
import inspect
import sys
from collections.abc import Iterator, Mapping
from dataclasses import is_dataclass
from functools import cache
from itertools import pairwise
from typing import Annotated, Any, NamedTuple, get_args, get_origin, get_type_hints, is_typeddict

import msgspec

from squash_api.accounts.key_ring import Key
from squash_api.delivery.subscriptions import Webhook, WebhookDelivery
from squash_api.record.audit import AuditEntry
from squash_api.record.quarantine import QuarantineEntry
from squash_api.reports.document import Report
from squash_api.routes import answer_objects as own
from squash_api.routes import definition_objects
from squash_api.routes.notebooks import Notebook
from squash_api.schema import alert_answers, answers
from squash_api.trends.formats.json import FoundValue

_PLACE = "#/components/schemas/{name}"
_NEXT = {
    "anyOf": [{"type": "string"}, {"type": "null"}],
    "description": "URL of the next page; null on the last one.",
}
# What was posted may have other keys too.
_OPEN = {own.StoredBlob.__name__}


class _Page(NamedTuple):
    """A page of a list: its own name, that of the list, what that is, and what may be in it."""

    title: str
    name: str
    words: str
    entries: tuple[Any, ...]


def _page(title: str, name: str, words: str, *entries: Any) -> _Page:
    return _Page(title, name, words, entries)


ANSWERS: Mapping[str, Any] = {
    "delete_ack": alert_answers.ChangedAlert,
    "delete_job": own.Message,
    "delete_key": own.Message,
    "delete_metric": own.Message,
    "delete_silence": alert_answers.EndedSilence,
    "delete_spec": own.Message,
    "delete_user": own.Message,
    "delete_webhook": own.Message,
    "get_alert": alert_answers.AlertDetails,
    "get_alerts": _page("AlertPage", "alerts", "Alerts, the newest first.", alert_answers.Alert),
    "get_artifacts": _page(
        "ArtifactPage", "artifacts", "In the order of the metadata.", answers.Artifact
    ),
    "get_audit": _page("AuditPage", "entries", "Entries, the newest first.", AuditEntry),
    "get_blob": own.StoredBlob,
    "get_blobs": _page("BlobPage", "blobs", "Blobs, in the order of the job.", own.BlobEntry),
    "get_brokers": own.Brokers,
    "get_cluster_topics": own.TopicList,
    "get_clusters": own.ClusterList,
    "get_code_changes": own.CodeChanges,
    "get_datasets": _page("DatasetPage", "datasets", "Names of datasets, sorted.", str),
    "get_healthz": own.Health,
    "get_jenkins": own.JenkinsJob,
    "get_job": answers.StoredJob,
    "get_job_report": list[answers.Verdict],
    "get_jobs": _page("JobPage", "ids", "Ids of jobs, ascending.", int),
    "get_keys": _page("KeyPage", "keys", "Keys, the oldest first.", Key),
    "get_measurement": answers.MeasurementsOfJob,
    "get_measurements": _page(
        "MeasurementPage",
        "measurements",
        "Values by time; with no parameter but `limit` and `after`, measurements as in jobs.",
        FoundValue,
        answers.StoredMeasurement,
    ),
    "get_metric": definition_objects.MetricObject,
    "get_metrics": _page(
        "MetricPage", "metrics", "Metrics, by name.", definition_objects.MetricObject
    ),
    "get_notebook": Notebook,
    "get_notebooks": _page("NotebookPage", "notebooks", "Runs, the newest first.", Notebook),
    "get_packages": _page("PackagePage", "packages", "Names of packages, sorted.", str),
    "get_quarantine": _page(
        "QuarantinePage", "quarantine", "Entries, the oldest first.", QuarantineEntry
    ),
    "get_readyz": own.Readiness,
    "get_report": Report,
    "get_root": own.Root,
    "get_run": answers.RunPage,
    "get_runs": _page("RunList", "runs", "Runs, the newest first.", answers.Run),
    "get_search": own.SearchResult,
    "get_silences": _page(
        "SilencePage", "silences", "Silences, the newest first.", alert_answers.Silence
    ),
    "get_spec": definition_objects.SpecObject,
    "get_specs": _page(
        "SpecPage", "specs", "Specifications, by name.", definition_objects.SpecObject
    ),
    "get_standings": own.StandingPage,
    "get_stats": own.Stats,
    "get_status": answers.JobStatus,
    "get_topics": list[str],
    "get_user": own.UserName,
    "get_users": _page("UserPage", "users", "Names of users, sorted.", str),
    "get_version": own.Version,
    "get_webhook_deliveries": _page(
        "WebhookDeliveryPage", "deliveries", "Deliveries, the newest first.", WebhookDelivery
    ),
    "get_webhooks": _page("WebhookPage", "webhooks", "Webhooks, the oldest first.", Webhook),
    "post_ack": alert_answers.ChangedAlert,
    "post_auth": own.Token,
    "post_job": answers.Receipt,
    "post_key": own.NewKey,
    "post_measurement": answers.StoredMeasurement,
    "post_metric": definition_objects.ChangedMetric,
    "post_metric_with_limits": definition_objects.MetricWithLimits,
    "post_metrics": definition_objects.ChangedList,
    "post_quarantine_drop": own.Counted,
    "post_quarantine_retry": own.Counted,
    "post_records": own.Offsets,
    "post_register": own.Message,
    "post_resolve": alert_answers.ChangedAlert,
    "post_silence": alert_answers.NewSilence,
    "post_spec": definition_objects.ChangedSpec,
    "post_specs": definition_objects.ChangedList,
    "post_topic": own.Topic,
    "post_webhook": own.NewWebhook,
    "post_webhook_retry": own.Counted,
    "post_webhook_test": WebhookDelivery,
    "put_metric": definition_objects.ChangedMetric,
    "put_spec": definition_objects.ChangedSpec,
    "put_user": own.User,
}
"""What each operation answers in JSON when it succeeds, by its name: a type, or a page."""


def add_schemas(document: dict[str, Any]) -> None:
    """Give each answer in JSON that has an empty schema the one of its type."""
    schemas, components = _made()
    document["components"]["schemas"] = components
    for methods in document["paths"].values():
        for operation in methods.values():
            for reply in operation["responses"].values():
                for kind, content in reply.get("content", {}).items():
                    if "json" in kind and content.get("schema") == {}:
                        content["schema"] = schemas.get(operation["operationId"], {})


def _made() -> tuple[dict[str, Any], dict[str, Any]]:
    """Make the schema of each operation, and those that they refer to, by name."""
    pages = {name: kind for name, kind in ANSWERS.items() if isinstance(kind, _Page)}
    others = {name: kind for name, kind in ANSWERS.items() if name not in pages}
    entries = [entry for page in pages.values() for entry in page.entries]
    every = [*others.values(), *entries, own.ErrorBody]
    made, components = msgspec.json.schema_components(every, ref_template=_PLACE)
    schemas: dict[str, Any] = dict(zip(others, made, strict=False))
    of_entries = iter(made[len(others) :])
    kinds = {kind.__name__: kind for item in every for kind in _parts(item)}
    for name, schema in components.items():
        _describe(schema, kinds[name])
    for name, page in pages.items():
        schemas[name] = {"$ref": _PLACE.format(name=page.title)}
        components[page.title] = _page_schema(page, [next(of_entries) for _ in page.entries])
    names = {
        _PLACE.format(name=name): _PLACE.format(name=_shown_name(kind))
        for name, kind in kinds.items()
    }
    _settle([schemas, components], names)
    shown = {_shown_name(kinds.get(name, name)): schema for name, schema in components.items()}
    return schemas, dict(sorted(shown.items()))


def _shown_name(kind: type | str) -> str:
    """Return what a class is called where nobody sees its module; pages have their names."""
    if isinstance(kind, str):
        return kind
    is_part = kind.__module__ == Report.__module__ and kind is not Report
    return f"{Report.__name__}{kind.__name__}" if is_part else kind.__name__


def _page_schema(page: _Page, entries: list[dict[str, Any]]) -> dict[str, Any]:
    items = entries[0] if len(entries) == 1 else {"anyOf": entries}
    return {
        "description": f"A page of {page.name}.",
        "type": "object",
        "properties": {
            page.name: {"type": "array", "items": items, "description": page.words},
            "next": _NEXT,
        },
        "required": [page.name, "next"],
    }


def _parts(kind: Any) -> Iterator[type]:
    """Yield the classes that a type is made of."""
    if is_typeddict(kind) or is_dataclass(kind):
        yield kind
    parts = get_type_hints(kind).values() if isinstance(kind, type) else get_args(kind)
    for part in parts:
        yield from _parts(part)


def _describe(schema: dict[str, Any], kind: type) -> None:
    """Complete the schema of a class: its fields in their order, with their descriptions."""
    del schema["title"]
    schema["description"] = inspect.getdoc(kind)
    properties, texts = schema["properties"], _texts(kind)
    hints = get_type_hints(kind, include_extras=True)
    for name, hint in hints.items():
        said = get_args(hint)[1:] if get_origin(hint) is Annotated else ()
        words = next((item for item in said if isinstance(item, str)), texts.get(name))
        if words is not None:
            # Beside a reference, too: OpenAPI 3.1 has JSON Schema's rules.
            properties[name]["description"] = words
    schema["properties"] = {name: properties[name] for name in hints}
    # A dataclass is written whole, whatever has a default.
    required = hints.keys() if is_dataclass(kind) else schema["required"]
    schema["required"] = [name for name in hints if name in required]
    for one in properties.values():
        one.pop("default", None)
    if kind.__name__ in _OPEN:
        schema["additionalProperties"] = True


def _texts(kind: type) -> dict[str, str]:
    """Return the text below each field of a class, also of those that it is made from."""
    module = sys.modules[kind.__module__]
    node = _classes(module.__name__).get(kind.__name__)
    if node is None:
        return {}
    found: dict[str, str] = {}
    for base in node.bases:
        above: Any = eval(ast.unparse(base), vars(module))  # noqa: S307  our own source
        if is_typeddict(above):
            found |= _texts(above)
    for field, text in pairwise(node.body):
        if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr):
            found[ast.unparse(field.target)] = " ".join(ast.literal_eval(text.value).split())
    return found


@cache
def _classes(module: str) -> dict[str, ast.ClassDef]:
    """Read the source of a module; return its classes by name."""
    tree = ast.parse(inspect.getsource(sys.modules[module]))
    return {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}


def _settle(node: Any, names: Mapping[str, str]) -> None:
    """Let references have the names that are shown, and enumerations a type, as programs want."""
    if isinstance(node, dict):
        if isinstance(node.get("enum"), list):
            node["type"] = "string"
        if isinstance(node.get("$ref"), str):
            node["$ref"] = names.get(node["$ref"], node["$ref"])
        node = list(node.values())
    if isinstance(node, list):
        for item in node:
            _settle(item, names)
