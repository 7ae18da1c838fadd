"""A topic per Slack channel, and the handler files that pass topics on to Slack. Pure.

They contain no secrets: Slack's URL, and the channel of `DEFAULT_TOPIC`, come from Kapacitor's
environment.
"""

from collections.abc import Iterable
from hashlib import sha256

DEFAULT_TOPIC = "metrics-default"
"""The topic of alerts that name no channel."""

_LONGEST = 120
_SPEAKS = "# Kapacitor tells people of alerts: made with SQUASH_ALERTS_BY=kapacitor."


def topic_of(channel: str | None) -> str:
    """Return the topic of a Slack channel (`#name`) or person (`@name`); None is the default one.

    Two channels never share a topic. Topics begin with `metrics` because Kapacitor strips the
    letters of "handlers/" from the front of a topic, and then does not find it.
    """
    if channel is None:
        return DEFAULT_TOPIC
    kind = "user" if channel.startswith("@") else "channel"
    name = "".join(
        letter if letter.isascii() and (letter.isalnum() or letter == "-") else _hex(letter)
        for letter in channel[1:]
    )
    if len(name) > _LONGEST:
        name = f"_{sha256(channel.encode()).hexdigest()}"
    return f"metrics-{kind}-{name}"


def handler_files(channels: Iterable[str | None]) -> dict[str, str]:
    """Return a handler file for each channel, by path."""
    return {
        f"kapacitor/handlers/{topic_of(channel)}-slack.yaml": _handler(channel)
        for channel in set(channels)
    }


def _handler(channel: str | None) -> str:
    topic = topic_of(channel)
    lines = [_SPEAKS, f"topic: {topic}", f"id: {topic}-slack", "kind: slack"]
    if channel is not None:
        lines.append(f'options: {{channel: "{_quoted(channel)}"}}')
    return "\n".join(lines) + "\n"


def _quoted(channel: str) -> str:
    """Return a channel for YAML's double quotes; it has no quotes or backslashes."""
    return "".join(c if c.isprintable() else f"\\U{ord(c):08x}" for c in channel)


def _hex(letter: str) -> str:
    return "".join(f"_{byte:02x}" for byte in letter.encode())
