"""Trends in packed blocks, in a file of their own."""
