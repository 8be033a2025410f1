"""Many questions about many files: inputs, a journal that no kill tears, workers, and what is written."""
