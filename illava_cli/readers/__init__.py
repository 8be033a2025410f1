"""Reading media in processes of their own: broken and hostile files cost one question, never the program."""
