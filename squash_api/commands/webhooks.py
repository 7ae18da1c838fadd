"""`squash webhook`: webhooks, directly in the record; the service may be running, and sends."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer

from squash_api.commands.terminal import AsJson, fail, failing, operator, print_json, print_table
from squash_api.delivery.subscriptions import (
    EVENTS,
    Subscriptions,
    delivery_object,
    webhook_object,
)
from squash_api.delivery.webhooks import Courier
from squash_api.record.webhooks import deliveries as deliveries_to
from squash_api.settings import load_settings
from squash_api.site import Site

Name = Annotated[str, typer.Argument(help="Its name, or its id.")]


def add(
    name: Annotated[str, typer.Argument(help="What you call it.")],
    url: Annotated[str, typer.Argument(metavar="URL", help="Where to send: https.")],
    *,
    event: Annotated[
        list[str], typer.Option(help=f"What it is told; repeat it: {', '.join(EVENTS)}.")
    ],
    metric: Annotated[
        list[str] | None, typer.Option(help="Only this metric; may be repeated.")
    ] = None,
    package: Annotated[
        list[str] | None, typer.Option(help="Only this package; may be repeated.")
    ] = None,
    severity: Annotated[
        str | None, typer.Option(metavar="LEVEL", help="Only alerts of this level or above.")
    ] = None,
    tag: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="Only with this tag; may be repeated."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Make a webhook; the secret that signs what is sent is printed once.

    The secret goes to standard output, all else to standard error.
    """
    filters: dict[str, Any] = {"metric": metric, "package": package, "severity": severity}
    filters["tags"] = dict(_tag(text) for text in tag or [])
    kept = {key: value for key, value in filters.items() if value}
    with _subscriptions() as found:
        row, secret = found.create(
            name, url, events=event, filters=kept, by=operator("webhook add")
        )
        notes = found.doubts(row)
    if as_json:
        print_json({"secret": secret, **webhook_object(row), "notes": notes})
        return
    typer.echo(secret)
    made = f"Made the webhook {row.receiver_id} ({row.name}), for {', '.join(row.events)}. "
    typer.echo("\n".join([f"{made}Its secret cannot be shown again.", *notes]), err=True)


def list_webhooks(*, as_json: AsJson = False) -> None:
    """List the webhooks, and how sending to them is; secrets are not shown."""
    with _subscriptions() as found:
        shown = [webhook_object(row) for row in found.list(by=operator("webhook list"))]
    if as_json:
        print_json(shown)
        return
    print_table(
        ("id", "name", "url", "events", "filters", "state"),
        [
            (
                str(item["id"]),
                item["name"],
                item["url"],
                ", ".join(item["events"]),
                _filters_text(item["filters"]),
                item["state"] if item["trouble"] is None else f"failing: {item['trouble']}",
            )
            for item in shown
        ],
    )


def remove(name: Name) -> None:
    """Remove a webhook, and what waits to be sent to it."""
    with _subscriptions() as found:
        row = found.remove(name, by=operator("webhook remove"))
    typer.echo(f"The webhook {row.receiver_id} ({row.name}) is removed.")


def test(name: Name) -> None:
    """Send a test to a webhook from here, now, and print what the receiver answers.

    Exit code: 0 if the receiver takes it, 1 if not; the service then tries again.
    """
    settings = load_settings()
    with failing(code=1), Site(settings) as site:
        row, delivery = site.subscriptions.test(name, by=operator("webhook test"))
        courier = Courier(site.record, settings.webhook_networks)
        asyncio.run(courier.send_one(row, delivery))
        with site.record.read() as connection:
            (sent,) = deliveries_to(
                connection, row.receiver_id, before=delivery.delivery_id + 1, limit=1
            )
    if sent.state != "delivered":
        fail(f"{row.name}: {sent.answer}", code=1)
    typer.echo(f"{row.name}: {sent.answer}")


def deliveries(
    name: Name,
    *,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="List at most this many.")] = 50,
    as_json: AsJson = False,
) -> None:
    """List what was, or is to be, sent to a webhook, the newest first, with the answers."""
    with _subscriptions() as found:
        _, rows = found.deliveries(name, by=operator("webhook deliveries"), limit=limit)
    shown = [delivery_object(row) for row in rows]
    if as_json:
        print_json(shown)
        return
    print_table(
        ("id", "event", "state", "attempts", "created", "next", "answer"),
        [
            (
                str(item["id"]),
                item["event"],
                item["state"],
                str(item["attempts"]),
                item["created"],
                item["next"] or "",
                item["answer"] or "",
            )
            for item in shown
        ],
    )


def retry(
    name: Name,
    *,
    delivery: Annotated[
        int | None, typer.Option(min=1, help="Only this delivery, whatever its state.")
    ] = None,
) -> None:
    """Have what was given up sent again, and what waits at once; the service sends it."""
    with _subscriptions() as found:
        count = found.retry(name, delivery_id=delivery, by=operator("webhook retry"))
    typer.echo(f"To send again: {count}.")


@contextmanager
def _subscriptions() -> Iterator[Subscriptions]:
    """Open the webhooks of the record; a failure ends the command."""
    with failing(code=1), Site(load_settings()) as site:
        yield site.subscriptions


def _tag(text: str) -> tuple[str, str]:
    name, is_tag, value = text.partition("=")
    if not is_tag or not name or not value:
        fail(f"'{text}' is not a tag: write one like instrument=HSC")
    return name, value


def _filters_text(filters: dict[str, Any]) -> str:
    texts = {
        "metric": ", ".join(filters.get("metric", [])),
        "package": ", ".join(filters.get("package", [])),
        "severity": filters.get("severity", ""),
        "tags": ", ".join(f"{name}={text}" for name, text in filters.get("tags", {}).items()),
    }
    return "; ".join(f"{name} {text}" for name, text in texts.items() if text)
