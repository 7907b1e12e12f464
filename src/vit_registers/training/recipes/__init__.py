"""How models are trained: a class for each kind of recipe, found by being here."""
