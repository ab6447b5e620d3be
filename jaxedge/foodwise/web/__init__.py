"""Pages, and the application around them."""
