"""Seeing a traced answer: which tokens stay, what merged into what, where the time goes."""
