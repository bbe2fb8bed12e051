"""How many workers: a discrete-event simulation of the fleet. docs/scale.md says what it answers."""
