"""Wires: each turns what a client sends, or leaves on disk, into the one job document."""
