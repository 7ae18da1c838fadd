"""Running the service: the command, its connections, and the processes that read for it."""
