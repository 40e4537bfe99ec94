"""An engine at hand: started, asked and ended in three lines of Python."""
