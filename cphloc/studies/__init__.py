"""Studies: declared comparisons of recipes over seeds, with intervals and a verdict; `cphloc study` runs them."""
