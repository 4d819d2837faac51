"""Behind the pages: the served state, the API, plain addresses, the first paint."""
