"""What routes answer that they build themselves, as types, for the OpenAPI document alone.

What other modules build for them is typed where it is built, so that mypy keeps it true; these are
kept true by tests. The text below a field is its description. Imported when the document is asked
for.
"""

from typing import Annotated, Any, Literal, NotRequired, TypedDict

import msgspec

from squash_api.accounts.credentials import ROLES
from squash_api.accounts.key_ring import Key
from squash_api.delivery.subscriptions import Webhook
from squash_api.routes.root import ENDPOINTS
from squash_api.schema import answers
from squash_api.schema.answers import State
from squash_api.standings.pruning import PruneRound


class Message(TypedDict):
    """A reply for people to read."""

    message: str
    """What was done."""


class ErrorDetail(TypedDict):
    """A place in the input, and what is wrong with it."""

    loc: list[str | int]
    """The place: `body`, `query` or `path`, and the keys and indices in it."""
    msg: str
    """What is wrong, for people."""
    type: str
    """What is wrong, for programs."""


class ErrorBody(TypedDict):
    """The body of every failure. A 401 also has `error` and `description`."""

    message: str
    """What went wrong, for people."""
    code: str
    """What went wrong, for programs. It does not change between releases."""
    status_code: int
    """The status of the answer."""
    detail: list[ErrorDetail]
    """The places in the input, if it was that."""
    error: NotRequired[str]
    """What is wrong with the credentials, as clients of the original service read it."""
    description: NotRequired[str]
    """The message again, for those clients."""
    error_code: NotRequired[int]
    """To clients of Kafka's REST proxy, what it would number this failure."""
    status: NotRequired[Literal["down"]]
    """At `/readyz`, that jobs are not accepted."""
    record: NotRequired[dict[str, str]]
    """At `/readyz`, how the record is: `status`, `reason` and `runbook`."""


class Counted(Message):
    """What was done, and to how many."""

    count: int
    """To how many."""


# Overview


Root = TypedDict(  # type: ignore[misc]  # the names are in a list
    "Root", {name: Annotated[str, f"URL of `/{name}`."] for name in ENDPOINTS}
)
Root.__doc__ = "The URL of every endpoint, by name."


class Version(TypedDict):
    """The version of the API, and the release of the software."""

    version: str
    """The version of the API."""
    release: str
    """The release of the software."""


class Numbers(TypedDict):
    """How much the record holds."""

    last_job_date: str
    """When the newest job was received, in UTC; empty if there is none."""
    number_of_jobs: int
    """Number of jobs."""
    number_of_metrics: int
    """Number of metrics, also of those that nobody has declared."""
    number_of_measurements: int
    """Number of values."""


class Stats(TypedDict):
    """How much the record holds."""

    stats: Numbers
    """The numbers."""


class StandingPage(TypedDict):
    """A page of standings, the worst first."""

    metrics: dict[State, int]
    """How many metrics are in each state; without those in which none is."""
    standings: list[answers.Standing]
    """The metrics, the worst first."""
    next: str | None
    """URL of the next page; null on the last one."""


class MetricFound(TypedDict):
    """A metric that a search has found."""

    name: str
    """The metric's full name."""
    state: State
    """Its worst state now."""
    url: str
    """URL of the metric."""


class SpecificationFound(TypedDict):
    """A specification that a search has found."""

    name: str
    """The specification's full name."""
    metric: str
    """The metric that it is of."""
    level: answers.Level
    """How bad it is to break it."""
    url: str
    """URL of the specification."""


class RunFound(TypedDict):
    """A run that a search has found."""

    pipeline: str | None
    """The pipeline's name."""
    run_id: str
    """The run's id."""
    date: str
    """When its newest job ran."""
    url: str
    """URL of the run."""


class JobFound(TypedDict):
    """A job that a search has found."""

    id: int
    """The job's id."""
    date: str
    """When it ran."""
    url: str
    """URL of the job."""


class SectionFound(TypedDict):
    """A section of the documentation that a search has found."""

    document: str
    """The document that it is in."""
    title: str
    """Its heading."""
    text: str
    """The part of it around the first of the words."""
    url: str
    """URL of the section."""


class SearchResult(TypedDict):
    """What has all words of a search, the best of each kind first."""

    metrics: list[MetricFound]
    """Metrics."""
    specifications: list[SpecificationFound]
    """Specifications."""
    runs: list[RunFound]
    """Runs."""
    jobs: list[JobFound]
    """Jobs."""
    documentation: list[SectionFound]
    """Sections of the documentation."""


# Jobs and runs


class StoredBlob(TypedDict):
    """A blob of a job, as it was posted, with all its keys."""

    identifier: str
    """What the job calls it."""
    name: NotRequired[Any]
    """Its name."""
    data: NotRequired[Any]
    """What is in it: values by key, each a value or an object with `value` and `unit`."""


class BlobEntry(TypedDict):
    """A blob of a job."""

    identifier: Any
    """What the job calls it, as it was posted."""
    name: Any
    """Its name, as it was posted."""
    keys: list[str]
    """The keys of its data."""
    url: str | None
    """URL of the blob; null if it has no identifier that a URL can end with."""


class JenkinsJob(answers.StoredJob):
    """The first job of a Jenkins run, and the ids of all its jobs."""

    jobs: list[int]
    """The ids of all jobs of the run, ascending."""


class CodeChanges(TypedDict):
    """The packages that differ from the previous run of the same pipeline."""

    id: str | None
    """The run's id; null if it is unknown."""
    previous_id: str | None
    """The previous run's id; null if there is none."""
    packages: list[list[str | None]]
    """Changed and new packages: name, git_sha and git_url of each."""
    removed: list[list[str | None]]
    """Packages that are gone: the same of each."""
    unknown: list[str]
    """Packages that may have changed: one of the runs does not give their commit."""
    counts: int | None
    """Number of changed, new and removed packages; null if one of the runs lists none."""


# Accounts and webhooks


class Token(TypedDict):
    """What to send with requests."""

    access_token: str
    """The token, to send as `Authorization: JWT <access_token>`."""


class UserName(TypedDict):
    """A user that is not disabled."""

    username: str
    """The user's name."""


class User(UserName):
    """A user after a change."""

    role: Annotated[str, msgspec.Meta(extra_json_schema={"enum": list(ROLES)})]
    """What the user may do."""
    disabled: bool
    """Whether tokens and keys of the user are refused."""


class NewKey(Key):
    """A key that was just made."""

    key: str
    """The whole key, which cannot be shown again."""


class NewWebhook(Webhook):
    """A webhook that was just made."""

    secret: str
    """What signs what is sent; it cannot be shown again."""
    notes: list[str]
    """What may be wrong with its filters, for people."""


# Health


class Health(TypedDict):
    """That the process is running."""

    status: Literal["ok"]
    """Always `ok`."""


class RecordState(TypedDict):
    """How the record is; of one that is only read, to readers, where to write and how old it is."""

    status: Literal["ok", "read-only"]
    """Whether jobs are stored, or only read."""
    reason: NotRequired[str]
    """Why it is only read."""
    write_url: NotRequired[str | None]
    """URL of the service that writes, if it is known."""
    last_job: NotRequired[int]
    """The id of the newest job."""
    is_linked: NotRequired[bool]
    """Of a replica, whether it is connected to what it follows."""
    as_of: NotRequired[str | None]
    """Of a replica, when what it has last was written."""
    lag_s: NotRequired[float | None]
    """Of a replica, how far it is behind, in seconds."""
    runbook: NotRequired[str]
    """URL of what to do."""


class TargetState(TypedDict):
    """How delivery to an InfluxDB is."""

    status: Literal["ok", "refilling", "down"]
    """Whether it takes points."""
    waiting: int
    """Number of jobs that are still to be sent."""
    quarantined: int
    """Number of lines that it refused for good."""
    undeleted: NotRequired[int]
    """Number of jobs whose points it refuses to delete."""
    reason: NotRequired[str]
    """What is wrong."""
    runbook: NotRequired[str]
    """URL of what to do."""
    since: NotRequired[str]
    """Since when."""
    server: NotRequired[str]
    """Which server it was when it last answered."""
    lacks: NotRequired[list[str]]
    """What that server cannot do."""


class ReceiverState(TypedDict):
    """How sending to a webhook, Slack or GitHub is."""

    status: Literal["ok", "down"]
    """Whether it takes what it is sent."""
    waiting: int
    """Number of messages that are still to be sent."""
    given_up: int
    """Number of messages that it did not take."""
    reason: NotRequired[str]
    """What is wrong."""
    runbook: NotRequired[str]
    """URL of what to do."""
    since: NotRequired[str]
    """Since when."""


class Retention(TypedDict):
    """How long jobs are kept, and what was pruned last."""

    keep: str
    """How long, as `SQUASH_KEEP` says."""
    last: PruneRound | None
    """The last daily prune; null if there was none."""


class Readiness(TypedDict):
    """Whether jobs are accepted, and to readers which dependency is down."""

    status: Literal["ok", "degraded", "read-only"]
    """Whether all is well, something is down, or jobs are only read."""
    record: RecordState
    """How the record is."""
    targets: NotRequired[dict[str, TargetState]]
    """How delivery to each InfluxDB is, by its name."""
    receivers: NotRequired[dict[str, ReceiverState]]
    """How sending to each webhook, Slack and GitHub is, by its name."""
    retention: NotRequired[Retention]
    """How long jobs are kept, if they are not kept for ever."""


# Sasquatch's wire, as Kafka's REST proxy has it


class Related(TypedDict):
    """Where to read more."""

    related: str
    """A URL."""


class ListMetadata(TypedDict):
    """Of a list."""

    self: str
    """URL of the list."""
    next: None
    """Always null: a list is whole."""


class ResourceMetadata(TypedDict):
    """Of a resource."""

    self: str
    """URL of the resource."""
    resource_name: str
    """Its name in the form of Confluent."""


class Cluster(TypedDict):
    """The one cluster."""

    kind: Literal["KafkaCluster"]
    """What this is."""
    metadata: ResourceMetadata
    """Its URL and name."""
    cluster_id: str
    """Its id, which clients put into the next URL."""
    controller: None
    """Always null: no broker is one."""
    acls: Related
    """Nothing is there."""
    brokers: Related
    """Nothing is there."""
    topics: Related
    """Its topics."""


class ClusterList(TypedDict):
    """The clusters."""

    kind: Literal["KafkaClusterList"]
    """What this is."""
    metadata: ListMetadata
    """URL of the list."""
    data: list[Cluster]
    """The one cluster."""


class Topic(TypedDict):
    """A topic, which is there without being made."""

    kind: Literal["KafkaTopic"]
    """What this is."""
    metadata: ResourceMetadata
    """Its URL and name."""
    cluster_id: str
    """The id of its cluster."""
    topic_name: Any
    """Its name, as it was sent; null if none was."""
    is_internal: bool
    """Always false."""
    replication_factor: int
    """Always 1."""
    partitions_count: int
    """Always 1."""
    partitions: Related
    """Nothing is there."""


class TopicList(TypedDict):
    """The topics of the cluster."""

    kind: Literal["KafkaTopicList"]
    """What this is."""
    metadata: ListMetadata
    """URL of the list."""
    data: list[Topic]
    """Always empty: none need be made."""


class Brokers(TypedDict):
    """The brokers."""

    brokers: list[int]
    """The service, as number 0."""


class Offset(TypedDict):
    """Where a record is."""

    partition: int
    """Always 0."""
    offset: int
    """The id of its job."""
    error_code: None
    """Always null: if one record is wrong, all are refused."""
    error: None
    """Always null."""


class Offsets(TypedDict):
    """What became of records."""

    offsets: list[Offset]
    """Where each record is, in their order."""
    key_schema_id: None
    """Always null: schemas have no ids."""
    value_schema_id: None
    """Always null."""
    jobs: list[answers.Receipt]
    """What became of each record as a job."""
