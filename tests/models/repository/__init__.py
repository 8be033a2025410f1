"""Checkpoints of the LLaVA-NeXT repository: the same model as in `transformers`' layout, or a clear line."""
