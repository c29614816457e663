"""How sure a figure is: intervals, paired tests, correlation and agreement of numbers, whatever they measure."""
