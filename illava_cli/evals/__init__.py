"""Accuracy, measured: the built-in visual question world and what runs it."""
