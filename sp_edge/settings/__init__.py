"""Training's settings and the recipes that fill them."""
