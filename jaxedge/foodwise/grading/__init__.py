"""The network that grades photos of plates, and its taught versions."""
