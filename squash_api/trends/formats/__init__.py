"""The formats in which measurements are given; `trends/parameters.py` has their table."""
