"""What people do: actions, photos, reviews, points, teams, and their staff."""
