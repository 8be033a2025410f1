"""Measurements on a `Session`: our reductions beside the unmodified `transformers` model and the bound.

`compare` times whole requests, `tower` the vision tower alone, `profiling` one request part by part,
`rivals` one layer with other methods. Each returns plain data that is a section of the JSON report.
"""
