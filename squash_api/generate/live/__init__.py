"""Running servers, compared with what the specifications generate, and updated."""
