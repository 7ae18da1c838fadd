"""The record: every accepted job, the definitions, the users and the state of delivery."""
