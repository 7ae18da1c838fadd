"""What `squash demo` shows: a service of its own with some weeks of made-up history."""
