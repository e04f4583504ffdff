"""What `tilctl doctor` is made of: the checks, each of which finds what it can and says what to do."""
