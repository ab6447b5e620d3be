"""What canteens throw away: weigh-ins, sums, charts and their story."""
