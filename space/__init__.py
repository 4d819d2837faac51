"""The web page of the leaderboard: a Gradio app over `leaderboard/`. Wiring and views, no arithmetic."""
