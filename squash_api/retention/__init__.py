"""How long jobs are kept: which old ones can go, and deleting them."""
