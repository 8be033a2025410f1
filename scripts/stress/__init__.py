"""Many clients of a server at once: what each does, how it fares, and what of it stays in the server."""
