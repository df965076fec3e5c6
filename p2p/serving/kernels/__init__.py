"""Linear layers and attention in C, the same bits for a row whatever rows are beside it."""
