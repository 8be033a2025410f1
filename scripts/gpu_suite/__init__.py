"""The suite for a GPU, `scripts/gpu_suite.sh`: a conductor that starts processes and reads what they write.

`plan` says what is run and in which order. `facts`, `measure` and pytest with the plugin `told` are the
processes; each appends to one `journal` as it learns. `jobs` starts them again after a crash and ends them at
their limit; `pages` makes Markdown of a journal. The conductor itself imports no torch, so that nothing that
a GPU does to a process can take it along.
"""
