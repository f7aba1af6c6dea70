"""Compare the quality of cphloc's planned recipes with other systems at equal budgets; `python -m tests.quality`."""
