"""The form of OpenAI's API: what a request asks, and the bodies and events of its answer. No torch here."""
