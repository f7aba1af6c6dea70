"""Does every system of ``recipes/systems`` learn, over three seeds, and not from shuffled annotations?"""
