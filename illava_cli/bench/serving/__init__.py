"""What a server does under load, measured on the client's side: any that speaks as OpenAI's does.

`loads` says when requests come, `questions` what they ask, `asking` sends one and times it, `driving` keeps a
load up for a while, `figures` makes percentiles of it, `own` starts a server to be measured.
"""
