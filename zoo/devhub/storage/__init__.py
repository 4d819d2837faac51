"""What the Hub keeps: objects, trees, repositories, pull requests, grants."""
