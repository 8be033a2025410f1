"""The program on bad input: one line that says what is wrong, the right exit code, nothing on stdout.

Nearly all of it runs in this process on small real checkpoints. The installed command runs where only a
process shows it: a full file system, closed streams, an environment that is read when a library is imported.
"""
