"""What `squash demo` shows: a private service with some weeks of made-up history."""
