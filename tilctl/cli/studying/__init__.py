"""Studies: recipes, parameters and rules compared on the same simulated donors, by dry runs in parallel processes."""
