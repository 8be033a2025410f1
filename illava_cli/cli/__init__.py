"""The command line: parse, resolve the configuration, ask the engine, render. One file per command."""
