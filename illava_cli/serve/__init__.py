"""A server in the form of OpenAI's API: what stands before the engine, and what it lets through."""
