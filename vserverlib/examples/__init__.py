"""Example data, and a made-up consortium at work."""
