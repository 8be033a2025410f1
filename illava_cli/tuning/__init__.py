"""Searches the schedule that serves a user's own pictures best."""
