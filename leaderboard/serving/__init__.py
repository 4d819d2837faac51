"""What a leaderboard shows: one state of the data and every answer about it."""
