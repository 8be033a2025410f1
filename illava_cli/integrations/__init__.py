"""Other programs that ask this package's models; each is a room of its own that needs that program."""
