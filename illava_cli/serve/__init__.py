"""An OpenAI-compatible server, and the page to try it with."""
