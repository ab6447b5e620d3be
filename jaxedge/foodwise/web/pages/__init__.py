"""The pages, a router a group."""
