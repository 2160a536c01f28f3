"""Linear models by SGD whose coefficients live in sparse tables of the store, by the number of the column."""
