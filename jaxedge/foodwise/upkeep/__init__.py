"""What keeps an instance: backups, taught networks, a made-up campaign."""
