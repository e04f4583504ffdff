"""What `tilctl device` is made of: instruments looked at and tried by a person, while no controller runs them."""
