"""Pipelines on their own machine: running and launching them, and sending what they measured."""
