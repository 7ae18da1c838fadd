"""Text and numbers for TICKscript, Go's templates and Slack. Pure."""

import json

from squash_api.errors import SettingsError
from squash_api.judging.alert_texts import Link, Message

_SLACK = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})
# In Slack, a link ends at a blank or `>`, and `|` begins what is shown in place of the address: an
# address with these could show one page and open another.
LINK_ENTITIES = {"&": "&amp;", "<": "%3C", ">": "%3E", "|": "%7C", " ": "%20"}
"""What the letters of an address become in a link of Slack."""

_LINKS = str.maketrans(LINK_ENTITIES)


def string(text: str) -> str:
    r"""Return a string of TICKscript, where `\'` is the only escape.

    Raises
    ------
    SettingsError
        If TICKscript cannot write it: it ends in a backslash and has three quotes in a row.
    """
    if not text.endswith("\\"):
        return "'" + text.replace("'", r"\'") + "'"
    if "'''" in text:
        raise SettingsError(f"cannot be written as a string in TICKscript: {text}")
    return f"'''{text}'''"


def reference(name: str) -> str:
    r"""Return the name of a tag, field, database or retention policy; only `\"` is an escape.

    Raises
    ------
    SettingsError
        If TICKscript cannot write it: it ends in a backslash.
    """
    if name.endswith("\\"):
        raise SettingsError(f"'{name}' ends in a backslash, which TICKscript cannot write")
    return '"' + name.replace('"', r"\"") + '"'


def comment(text: str) -> str:
    """Return text as one line of comment."""
    return "// " + " ".join("".join(c if c.isprintable() else " " for c in text).split())


def for_slack(text: str) -> str:
    """Return text that Slack shows unchanged, with `&`, `<` and `>` escaped."""
    return text.translate(_SLACK)


def slack_text(message: Message) -> str:
    """Return a message as Slack shows it: whatever is in it, it notifies nobody else."""
    links = ", ".join(map(_slack_link, message.links))
    first = f"{message.symbol} *{for_slack(message.level)}* {for_slack(message.title)}"
    return "\n".join((first, *map(for_slack, message.lines), *([links] if links else [])))


def _slack_link(link: Link) -> str:
    if link.url is None:
        return for_slack(link.text)
    # A line break would end the link, and `|` in its words is shown as it is.
    return f"<{link.url.translate(_LINKS)}|{for_slack(link.text)}>"


def static(text: str) -> str:
    """Return text that a Go template and then Slack show unchanged."""
    return for_slack(text).replace("{", '{{"{"}}')


def go_string(text: str) -> str:
    """Return a string constant of a Go template."""
    return json.dumps(text, ensure_ascii=False)
