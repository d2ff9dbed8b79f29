"""A cell's equations as data: recorded, differentiated, and checked for changes."""
