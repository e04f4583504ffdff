"""What `tilctl profile` is made of."""
