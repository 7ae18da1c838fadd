"""`python -m squash_api` is the command `squash`."""

from squash_api.cli import main

main()
