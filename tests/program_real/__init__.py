"""The installed program on real files: pictures and clips as cameras write them, every family, no fake.

A process imports torch anew each time, so there are few of them, two at once; what a process of its own
would not show runs in this one.
"""
