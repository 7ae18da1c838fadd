"""Accounts: who somebody is, their password, and their tokens."""
