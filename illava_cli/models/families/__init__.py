"""The model families, a file each; `tiled`, `anyres` and `packed` are what some of them share."""
