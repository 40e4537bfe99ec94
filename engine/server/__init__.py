"""The server side: what runs inside a stock vLLM server, and how such a server is started."""
