"""A real tower on real photographs, from public packages in an ignored folder; nothing of it is shipped."""
