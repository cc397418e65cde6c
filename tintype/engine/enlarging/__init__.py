"""Networks that enlarge a picture in one evaluation, told apart by the names and shapes of their weights."""
