"""Runs on machines that may be taken away: Hugging Face Jobs, and the state they leave on the Hub."""
