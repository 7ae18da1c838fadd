"""What R9 is compared with: a typer program that does nothing."""

import typer

app = typer.Typer()


@app.command()
def serve() -> None:
    """Do nothing."""


@app.command()
def deliver() -> None:
    """Do nothing either."""


if __name__ == "__main__":
    app()
