"""Options of every command that reads jobs from files: which files, and what they are about."""

from typing import Annotated, Any

import typer

from squash_api.commands.terminal import options_as
from squash_api.wires.data_id import KEYS, DataId, PathTemplate

FilesArgument = Annotated[
    list[str],
    typer.Argument(
        metavar="FILE",
        help="Jobs, metric bundles or measurements: files, folders, globs, or - for stdin.",
    ),
]
AllowOthers = Annotated[
    bool,
    typer.Option(
        "--allow-others", help="Do not exit with 1 or 2 because a folder has other files too."
    ),
]
_PANEL = "What the jobs are about"
_HELP = {
    "run": "Name of their run, such as a collection of the butler.",
    "dataset_type": "Their dataset type, such as objectTableCore_metrics.",
    "namespace": "Their namespace in Sasquatch, such as lsst.dm.",
    "day_obs": "Their observing day, such as 20260515.",
    "dataset_tag": "Their dataset, instead of the one that a bundle names.",
}


def _option(key: str) -> Any:
    flag = f"--{key.replace('_', '-')}"
    text = _HELP.get(key, f"Their {key.replace('_', ' ')}.")
    return Annotated[str | None, typer.Option(flag, help=text, rich_help_panel=_PANEL)]


_OPTIONS = {
    **{key: _option(key) for key in KEYS},
    "extra": Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=VALUE", help="Further metadata; may be repeated.", rich_help_panel=_PANEL
        ),
    ],
    "path_template": Annotated[
        str | None,
        typer.Option(
            help="How paths name all this, such as '{run}/{dataset_type}/{tract}/*.json'.",
            rich_help_panel=_PANEL,
        ),
    ],
}


def _gather(given: dict[str, Any]) -> DataId:
    extra = given.pop("extra") or []
    template = given.pop("path_template")
    values = {key: value for key, value in given.items() if value}
    for text in extra:
        key, equals, value = text.partition("=")
        if not (key and equals):
            raise typer.BadParameter(f"{text!r} is not KEY=VALUE", param_hint="--extra")
        values[key] = value
    try:
        return DataId(values, None if template is None else PathTemplate(template))
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--path-template") from None


with_data_id = options_as("data_id", _OPTIONS, gather=_gather)
"""Gives a command the options, and their `DataId` as its argument `data_id`."""
