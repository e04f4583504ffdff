"""The recipe language: model, expressions, checking, and the library of recipes."""
