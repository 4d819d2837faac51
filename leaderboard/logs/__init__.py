"""Run logs: the contract of a log, reading, judging, caching and sending them."""
