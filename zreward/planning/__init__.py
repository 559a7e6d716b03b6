"""`zreward plan`: what a recipe needs on its machines, computed from configurations alone. No weight is read."""
