"""A client of servers that speak as OpenAI's: `illava serve`, vLLM, SGLang, llama.cpp, Ollama, OpenAI itself.

`settings` says what is sent of a configuration, `body` how a question and its media are sent, `calls` how
often it is tried, and `answer` what comes of an answer. Nothing here imports torch.
"""
