"""The commands of `squash`, one module each."""
