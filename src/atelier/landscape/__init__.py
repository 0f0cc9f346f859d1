"""Chapter *landscape*: many modes, forks, and the training set as a landscape."""
